// Writes the sample documents into a folder, for tests/validate_schema.py.
#include "lab/base/file.hh"
#include "lab/harness/document_json.hh"
#include "tests/sample_document.hh"

#include <string>

using namespace schedlab;

int main(int, char** argv) {
  const std::string folder = argv[1];
  write_output(folder + "/full.json", harness::to_json(harness::full_document()));
  write_output(folder + "/minimal.json", harness::to_json(harness::minimal_document()));
}
