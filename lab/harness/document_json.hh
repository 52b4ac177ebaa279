#pragma once
#include "lab/harness/document.hh"

#include <string>
#include <string_view>

namespace schedlab::harness {

// The document as strict JSON, keys in the order of the contract, with a newline at its end. NaN
// and infinity become null, bytes that are not UTF-8 U+FFFD; other numbers come back as they were.
std::string to_json(const Document& document);

// A part of the environment by JSON pointer, "/kernel/release"; empty where it is null or missing.
std::string env_text(const Document& document, const char* pointer);

// The reverse of to_json. Keys it does not know are ignored. Throws BadInput, one line with `path`
// and the place, if the text is not such a document: "a.json:3:14: not JSON", "a.json:
// /labs/0/name: expected a text".
Document parse_document(std::string_view text, const std::string& path);

// Reads and parses a file. Throws BadInput as read_input() and parse_document() do.
Document read_document(const std::string& path);

}  // namespace schedlab::harness
