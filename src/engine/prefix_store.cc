#include "engine/prefix_store.h"

#include <xxhash.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "base/check.h"

namespace fathom {
namespace {

constexpr std::array<char, 8> kMagic = {'F', 'A', 'T', 'H', 'P', 'F', 'X', '1'};
constexpr int64_t kTokens = LatentPages::kPageTokens;

/// In the byte order of the machine: the file is for this machine.
struct Header {
  std::array<char, 8> magic = kMagic;
  uint64_t identity = 0;
  int64_t page_bytes = 0;
  int64_t num_pages = 0;
  uint64_t hash = 0;  // of what is before it
};
struct PageHead {
  int64_t before = -1;  // an earlier record of the file; -1: the page is at the beginning of a prompt
  uint64_t hash = 0;
  std::array<int32_t, kTokens> tokens{};
};
static_assert(sizeof(Header) == 40 && sizeof(PageHead) == 16 + 4 * kTokens, "records have no padding");

int64_t record_bytes(int64_t page_bytes) {
  return static_cast<int64_t>(sizeof(PageHead)) + page_bytes + static_cast<int64_t>(sizeof(uint64_t));
}
uint64_t header_hash(const Header& header) { return XXH3_64bits(&header, offsetof(Header, hash)); }
/// Depends on the place, so that records cannot have been exchanged.
uint64_t record_hash(const PageHead& head, const std::byte* page, int64_t page_bytes, int64_t place) {
  return XXH3_64bits_withSeed(page, static_cast<size_t>(page_bytes),
                              XXH3_64bits_withSeed(&head, sizeof(head), static_cast<uint64_t>(place)));
}
int64_t page_bytes_of(const LatentCache& cache) { return cache.num_layers() * cache.layer_bytes(); }

struct Record {
  PageHead head;
  const std::byte* page = nullptr;
};

/// The records of a file, or what is wrong with it.
Result<std::vector<Record>> read_records(const MappedFile& file, const LatentCache& cache, uint64_t identity,
                                         const Path& path) {
  const auto wrong = [&](const std::string& what) { return corrupt(path.string() + ": " + what); };
  const int64_t size = std::ssize(file.bytes());
  const std::byte* bytes = file.bytes().data();
  Header header;
  if (size < static_cast<int64_t>(sizeof(header))) return wrong("shorter than its header");
  std::memcpy(&header, bytes, sizeof(header));
  if (header.magic != kMagic) return wrong("no file of prefix pages");
  if (header.hash != header_hash(header)) return wrong("the header is damaged");
  if (header.identity != identity) return wrong("pages of another model, precision or version");
  const int64_t page_bytes = page_bytes_of(cache), step = record_bytes(page_bytes);
  if (header.page_bytes != page_bytes) return wrong("pages of another shape");
  const int64_t room = size - static_cast<int64_t>(sizeof(header));
  if (header.num_pages < 0 || room % step != 0 || room / step != header.num_pages) {
    return wrong("cut, or longer than its " + std::to_string(header.num_pages) + " pages");
  }
  std::vector<Record> records(static_cast<size_t>(header.num_pages));
  for (int64_t i = 0; i < header.num_pages; ++i) {
    Record& record = records[static_cast<size_t>(i)];
    const std::byte* at = bytes + sizeof(header) + i * step;
    std::memcpy(&record.head, at, sizeof(record.head));
    record.page = at + sizeof(record.head);
    uint64_t hash = 0;
    std::memcpy(&hash, record.page + page_bytes, sizeof(hash));
    const bool good = hash == record_hash(record.head, record.page, page_bytes, i) && record.head.before < i &&
                      record.head.before >= -1;
    if (!good) return wrong("page " + std::to_string(i) + " is damaged");
  }
  return records;
}

}  // namespace

Status save_prefix_pages(const LatentCache& cache, uint64_t identity, const Path& path) {
  const std::vector<int32_t> pages = cache.index().pages();
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  Header header{.identity = identity, .page_bytes = page_bytes_of(cache), .num_pages = std::ssize(pages)};
  header.hash = header_hash(header);
  if (auto s = file->write(&header, sizeof(header)); !s) return s;
  std::unordered_map<int32_t, int64_t> places;
  for (const int32_t page : pages) {
    const PrefixIndex::PageOf known = cache.index().at(page);
    PageHead head{.before = known.before == PrefixIndex::kNoPage ? -1 : places.at(known.before), .hash = known.hash};
    check(std::ssize(known.tokens) == kTokens, "a page of the index has a page's tokens");
    std::copy(known.tokens.begin(), known.tokens.end(), head.tokens.begin());
    const int64_t place = std::ssize(places);
    places.emplace(page, place);
    const uint64_t hash = record_hash(head, cache.data(page), header.page_bytes, place);
    for (const auto& [data, size] : {std::pair<const void*, size_t>{&head, sizeof(head)},
                                     {cache.data(page), static_cast<size_t>(header.page_bytes)},
                                     {&hash, sizeof(hash)}}) {
      if (auto s = file->write(data, size); !s) return s;
    }
  }
  return file->commit();
}

Result<int64_t> load_prefix_pages(LatentCache& cache, uint64_t identity, const Path& path) {
  check(cache.index().num_pages() == 0, "pages are loaded into an empty index");
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  const auto records = read_records(*file, cache, identity, path);
  if (!records) return records.error();
  std::vector<int32_t> pages;
  for (const Record& record : *records) {
    const int32_t before =
        record.head.before < 0 ? PrefixIndex::kNoPage : pages[static_cast<size_t>(record.head.before)];
    const auto page = cache.take_page();
    if (!page) break;
    std::memcpy(cache.data(*page), record.page, static_cast<size_t>(page_bytes_of(cache)));
    cache.index().insert(before, record.head.hash, record.head.tokens, *page);
    pages.push_back(*page);
  }
  for (size_t i = pages.size(); i > 0; --i) cache.give_back(pages[i - 1]);  // the last one is the next to go
  return std::ssize(pages);
}

}  // namespace fathom
