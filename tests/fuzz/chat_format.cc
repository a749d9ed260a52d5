// Fuzz target: tokenizer_config.json and chat_template.jinja of a model directory. Input: the config, a zero byte, the
// template (empty: there is no such file). They are refused by name, or make a chat format.
#include "scratch.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  static const fuzz::ScratchDirectory directory;
  std::string_view rest = fuzz::text_of(data, size);
  directory.put("tokenizer_config.json", fuzz::cut(rest));
  std::error_code ignored;
  std::filesystem::remove(directory.path() / "chat_template.jinja", ignored);
  if (!rest.empty()) directory.put("chat_template.jinja", rest);
  const auto format = load_chat_format(directory.path());
  if (format) return 0;
  check(format.error().text.find(directory.path().string()) != std::string::npos, "an error names its file");
  return 0;
}
