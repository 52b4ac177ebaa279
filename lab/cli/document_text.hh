#pragma once
#include "lab/harness/document.hh"
#include "lab/harness/lab_text.hh"

#include <string>

namespace schedlab::cli {

// The lines above all labs: what ran, and on what machine.
std::string document_head(const harness::Document& document, const harness::TextOptions& options);

}  // namespace schedlab::cli
