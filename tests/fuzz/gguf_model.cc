// Fuzz target: any bytes as a GGUF file that a model is read from: its config, its tokenizer and its chat template are
// each refused, or usable.
#include "engine/model_text.h"
#include "model/gguf_config.h"
#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  static const fuzz::ScratchDirectory directory;
  directory.put("m.gguf", fuzz::text_of(data, size));
  const Path path = directory.path() / "m.gguf";
  const auto model = GgufModel::open(path);
  if (!model) {
    check(model.error().text.find("m.gguf") != std::string::npos, "an error names its file");
    return 0;
  }
  if (const auto config = config_from_gguf(*model)) {
    const auto again = ModelConfig::parse(config->to_json(), "again");
    check(again && *again == *config, "a config survives a round trip");
  }
  if (const auto tokenizer = load_tokenizer(path)) {
    constexpr std::string_view kText = "Hello, 1 world";
    const auto ids = tokenizer->encode(kText, AddedTokens::kIgnore);
    if (ids) {
      const auto back = tokenizer->decode(*ids);
      check(back && *back == kText, "decoding gives back the text");
    }
  }
  (void)load_model_chat_format(path).ok();
  return 0;
}
