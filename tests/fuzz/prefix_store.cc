// Fuzz target: any bytes as a file of prefix pages: refused with the cache as it was, or pages that are all without a
// user. Checksums are filled in first, because no fuzzer finds them by chance; the first byte says not to.
#include "engine/prefix_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

#include "scratch.h"

namespace {

constexpr size_t kHeaderBytes = 40, kHeadBytes = 16 + 4 * 64, kHashBytes = 8;

void fill_in(std::string& bytes, size_t page_bytes) {
  if (bytes.size() < kHeaderBytes) return;
  const uint64_t header = XXH3_64bits(bytes.data(), kHeaderBytes - kHashBytes);
  std::memcpy(bytes.data() + kHeaderBytes - kHashBytes, &header, kHashBytes);
  const size_t step = kHeadBytes + page_bytes + kHashBytes;
  uint64_t place = 0;
  for (size_t at = kHeaderBytes; at + step <= bytes.size(); at += step, ++place) {
    const uint64_t hash = XXH3_64bits_withSeed(bytes.data() + at + kHeadBytes, page_bytes,
                                               XXH3_64bits_withSeed(bytes.data() + at, kHeadBytes, place));
    std::memcpy(bytes.data() + at + kHeadBytes + page_bytes, &hash, kHashBytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  if (size < 1) return 0;
  ModelConfig config;
  config.num_hidden_layers = 1;
  config.kv_lora_rank = config.qk_rope_head_dim = 2;
  LatentCache cache(config, DType::kBF16, 3 * LatentPages::kPageTokens);  // a page has 512 bytes
  std::string bytes(fuzz::text_of(data + 1, size - 1));
  if (data[0] != '!') fill_in(bytes, static_cast<size_t>(cache.num_layers() * cache.layer_bytes()));
  const fuzz::MemoryFile file(bytes);
  const auto loaded = load_prefix_pages(cache, 7, file.path());
  check(cache.pages_in_use() == 0, "nobody uses a page");
  if (!loaded) {
    check(cache.index().num_pages() == 0, "a refused file leaves nothing behind");
    check(loaded.error().text.starts_with(file.path().string()), "an error names its file");
    return 0;
  }
  check(*loaded >= 0 && *loaded <= cache.max_pages() && cache.index().num_pages() <= *loaded, "pages have room");
  for (int i = 0; i < 3; ++i) check(cache.take_page().ok(), "every page can be taken for something else");
  return 0;
}
