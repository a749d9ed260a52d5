// Fuzz target: any bytes as the file of a prefix page: the page that they hold, whole and of the wanted prefix, or no
// page and no file. The checksum is filled in first, because no fuzzer finds it by chance; the first byte says not to.
#include "engine/prefix_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cstring>

#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  constexpr size_t kPageBytes = 512, kHeaderBytes = 40, kHashBytes = 8, kTokens = 64;
  constexpr uint64_t kIdentity = 7, kHash = 9;
  static const fuzz::ScratchDirectory directory;
  static const Path name = "0000000000000007-0000000000000009.page";
  if (size < 1) return 0;
  std::string bytes(fuzz::text_of(data + 1, size - 1));
  if (data[0] != '!' && bytes.size() >= kHashBytes) {
    const uint64_t hash = XXH3_64bits(bytes.data(), bytes.size() - kHashBytes);
    std::memcpy(bytes.data() + bytes.size() - kHashBytes, &hash, kHashBytes);
  }
  directory.put(name, bytes);
  auto opened =
      PrefixStore::open({.directory = directory.path(), .identity = kIdentity, .max_bytes = 1 << 20}, kPageBytes);
  check(opened.ok(), "any file leaves the directory usable");
  PrefixStore& store = **opened;
  std::array<int32_t, kTokens> prefix{};
  std::array<std::byte, kPageBytes> page{};
  const bool found = store.load(kHash, prefix, page.data());
  check(found == store.contains(kHash), "what cannot be used is no more");
  if (found) {
    check(bytes.size() == kHeaderBytes + sizeof(prefix) + kPageBytes + kHashBytes, "a page's file has its size");
    check(std::memcmp(bytes.data() + kHeaderBytes, prefix.data(), sizeof(prefix)) == 0, "the prefix is the wanted one");
    check(std::memcmp(bytes.data() + kHeaderBytes + sizeof(prefix), page.data(), kPageBytes) == 0,
          "the page is the file's");
  } else {
    check(!std::filesystem::exists(directory.path() / name), "nor its file");
  }
  std::error_code gone;
  std::filesystem::remove(directory.path() / name, gone);
  return 0;
}
