#include "engine/prefix_store.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <system_error>
#include <tuple>
#include <utility>

namespace fathom {
namespace {

constexpr std::array<char, 8> kMagic = {'F', 'A', 'T', 'H', 'P', 'G', 'E', '1'};
constexpr std::string_view kSuffix = ".page", kPartial = ".page.partial";
constexpr int64_t kMaxPendingBytes = int64_t{64} << 20;  // a slow disk must not fill the memory
constexpr size_t kHexDigits = 16;

/// In the byte order of the machine: the files are for this machine. Tokens and the page follow, then a checksum.
struct Header {
  std::array<char, 8> magic = kMagic;
  uint64_t identity = 0;
  uint64_t hash = 0;
  int64_t num_tokens = 0;
  int64_t page_bytes = 0;
};
static_assert(sizeof(Header) == 40, "a header has no padding");

std::string hex(uint64_t value) {
  std::string text(kHexDigits, '0');
  for (size_t i = 0; i < kHexDigits; ++i, value >>= 4) text[kHexDigits - 1 - i] = "0123456789abcdef"[value & 15];
  return text;
}

/// Whether a name is one of ours, IDENTITY-HASH and then `suffix`.
bool is_ours(std::string_view name, std::string_view suffix) {
  constexpr size_t kStem = 2 * kHexDigits + 1;
  if (name.size() != kStem + suffix.size() || !name.ends_with(suffix)) return false;
  for (size_t i = 0; i < kStem; ++i) {
    const bool is_hex = (name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'f');
    if (i == kHexDigits ? name[i] != '-' : !is_hex) return false;
  }
  return true;
}

size_t file_bytes(size_t num_tokens, int64_t page_bytes) {
  return sizeof(Header) + num_tokens * sizeof(int32_t) + static_cast<size_t>(page_bytes) + sizeof(uint64_t);
}

}  // namespace

Result<std::unique_ptr<PrefixStore>> PrefixStore::open(PrefixStoreOptions options, int64_t page_bytes) {
  const Path directory = options.directory;
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  std::unique_ptr<PrefixStore> store(new PrefixStore(std::move(options), page_bytes));
  struct Found {
    std::filesystem::file_time_type used;
    std::string name;
    int64_t bytes;
  };
  std::vector<Found> found;
  std::filesystem::directory_iterator entries(directory, failed);
  for (; !failed && entries != std::filesystem::directory_iterator(); entries.increment(failed)) {
    const std::string name = entries->path().filename().string();
    std::error_code gone;  // between listing and looking
    if (is_ours(name, kPartial)) std::filesystem::remove(entries->path(), gone);
    if (!is_ours(name, kSuffix) || !entries->is_regular_file(gone)) continue;
    const auto bytes = entries->file_size(gone);
    const auto used = gone ? decltype(Found::used){} : entries->last_write_time(gone);
    if (!gone) found.push_back({used, name, static_cast<int64_t>(bytes)});
  }
  if (failed) return io_error(directory.string() + ": " + failed.message());
  std::ranges::sort(found,
                    [](const Found& a, const Found& b) { return std::tie(a.used, a.name) < std::tie(b.used, b.name); });
  const std::lock_guard lock(store->mutex_);
  for (const Found& file : found) store->add(file.name, file.bytes);
  store->make_room(0);
  return store;
}

PrefixStore::PrefixStore(PrefixStoreOptions options, int64_t page_bytes)
    : options_(std::move(options)), page_bytes_(page_bytes), writer_([this] { write(); }) {}

PrefixStore::~PrefixStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  writer_.join();
}

std::string PrefixStore::name_of(uint64_t hash) const {
  return hex(options_.identity) + "-" + hex(hash) + std::string(kSuffix);
}

bool PrefixStore::is_own(const std::string& name) const { return name.starts_with(hex(options_.identity)); }

void PrefixStore::add(const std::string& name, int64_t bytes) {
  erase(name);
  files_.emplace(name, File{.bytes = bytes, .place = by_use_.insert(by_use_.end(), name)});
  stats_.bytes += bytes;
  num_own_ += is_own(name);
}

void PrefixStore::touch(File& file) { by_use_.splice(by_use_.end(), by_use_, file.place); }

/// From the list; the file is the caller's.
void PrefixStore::erase(const std::string& name) {
  const auto it = files_.find(name);
  if (it == files_.end()) return;
  stats_.bytes -= it->second.bytes;
  num_own_ -= is_own(name);
  by_use_.erase(it->second.place);
  files_.erase(it);
}

void PrefixStore::make_room(int64_t bytes) {
  while (!by_use_.empty() && stats_.bytes + bytes > options_.max_bytes) {
    const std::string name = by_use_.front();
    std::error_code failed;
    std::filesystem::remove(options_.directory / name, failed);
    erase(name);
  }
}

bool PrefixStore::contains(uint64_t hash) const {
  const std::lock_guard lock(mutex_);
  return files_.contains(name_of(hash)) || std::ranges::find(pending_, hash, &Pending::hash) != pending_.end();
}

void PrefixStore::save(uint64_t hash, std::span<const int32_t> prefix, const std::byte* page) {
  const size_t size = file_bytes(prefix.size(), page_bytes_);
  {
    const std::lock_guard lock(mutex_);
    if (discarded_) return;
    if (const auto it = files_.find(name_of(hash)); it != files_.end()) return touch(it->second);
    if (std::ranges::find(pending_, hash, &Pending::hash) != pending_.end()) return;
    const bool is_alone = pending_.empty();  // a page larger than the room is written too
    if ((!is_alone && pending_bytes_ + static_cast<int64_t>(size) > kMaxPendingBytes) ||
        static_cast<int64_t>(size) > options_.max_bytes) {
      ++stats_.dropped;
      return;
    }
    pending_bytes_ += static_cast<int64_t>(size);
  }
  const Header header{
      .identity = options_.identity, .hash = hash, .num_tokens = std::ssize(prefix), .page_bytes = page_bytes_};
  Pending next{.hash = hash, .bytes = {}};
  next.bytes.reserve(size);
  next.bytes.append(reinterpret_cast<const char*>(&header), sizeof(header));
  next.bytes.append(reinterpret_cast<const char*>(prefix.data()), prefix.size_bytes());
  next.bytes.append(reinterpret_cast<const char*>(page), static_cast<size_t>(page_bytes_));
  const uint64_t checksum = XXH3_64bits(next.bytes.data(), next.bytes.size());
  next.bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  {
    const std::lock_guard lock(mutex_);
    pending_.push_back(std::move(next));
  }
  changed_.notify_one();
}

/// The page in the bytes of a file, if they are whole and of that hash and prefix.
bool PrefixStore::unpack(std::string_view bytes, uint64_t hash, std::span<const int32_t> prefix,
                         std::byte* page) const {
  if (bytes.size() != file_bytes(prefix.size(), page_bytes_)) return false;
  const size_t size = bytes.size() - sizeof(uint64_t);
  Header header;
  uint64_t checksum = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  std::memcpy(&checksum, bytes.data() + size, sizeof(checksum));
  const bool good = header.magic == kMagic && header.identity == options_.identity && header.hash == hash &&
                    header.num_tokens == std::ssize(prefix) && header.page_bytes == page_bytes_ &&
                    std::memcmp(bytes.data() + sizeof(header), prefix.data(), prefix.size_bytes()) == 0 &&
                    checksum == XXH3_64bits(bytes.data(), size);
  if (good) {
    std::memcpy(page, bytes.data() + sizeof(header) + prefix.size_bytes(), static_cast<size_t>(page_bytes_));
  }
  return good;
}

bool PrefixStore::load(uint64_t hash, std::span<const int32_t> prefix, std::byte* page) {
  const std::string name = name_of(hash);
  {
    const std::lock_guard lock(mutex_);
    const auto next = std::ranges::find(pending_, hash, &Pending::hash);
    if (next != pending_.end()) return unpack(next->bytes, hash, prefix, page);  // not in its file yet
    const auto it = files_.find(name);
    if (it == files_.end()) return false;
    touch(it->second);
  }
  const Path path = options_.directory / name;
  const auto bytes = read_file(path, static_cast<int64_t>(file_bytes(prefix.size(), page_bytes_)));
  const bool good = bytes.ok() && unpack(*bytes, hash, prefix, page);
  std::error_code ignored;  // the time only orders the files at the next start
  if (good) {
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now(), ignored);
  } else {
    std::filesystem::remove(path, ignored);
  }
  const std::lock_guard lock(mutex_);
  if (!good) erase(name);
  ++(good ? stats_.read : stats_.damaged);
  return good;
}

void PrefixStore::remove(uint64_t hash) {
  std::unique_lock lock(mutex_);
  // A page that is being written cannot be called back: wait for it.
  changed_.wait(lock, [&] { return pending_.empty() || pending_.front().hash != hash; });
  std::erase_if(pending_, [&](const Pending& p) {
    if (p.hash != hash) return false;
    pending_bytes_ -= std::ssize(p.bytes);
    return true;
  });
  if (!files_.contains(name_of(hash))) return;
  std::error_code failed;
  std::filesystem::remove(options_.directory / name_of(hash), failed);
  erase(name_of(hash));
}

void PrefixStore::discard() {
  std::unique_lock lock(mutex_);
  discarded_ = true;
  while (pending_.size() > 1) {
    pending_bytes_ -= std::ssize(pending_.back().bytes);
    pending_.pop_back();
  }
  changed_.wait(lock, [&] { return pending_.empty(); });
  std::vector<std::string> ours;
  for (const auto& [name, file] : files_) {
    if (is_own(name)) ours.push_back(name);
  }
  for (const std::string& name : ours) {
    std::error_code failed;
    std::filesystem::remove(options_.directory / name, failed);
    erase(name);
  }
}

PrefixStoreStats PrefixStore::stats() const {
  const std::lock_guard lock(mutex_);
  PrefixStoreStats stats = stats_;
  stats.pages = num_own_ + std::ssize(pending_);
  return stats;
}

/// The writer: one page after the other, the lock not held meanwhile. The page stays the first of pending_ until its
/// file is known, so that it is found at every moment.
void PrefixStore::write() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !pending_.empty(); });
    if (pending_.empty()) return;
    const Pending& next = pending_.front();  // a deque: it stays where it is when others join
    const std::string name = name_of(next.hash);
    const int64_t size = std::ssize(next.bytes);
    make_room(size);
    lock.unlock();
    const Status written = write_file(options_.directory / name, next.bytes);
    std::string complaint = written ? "" : written.error().text;
    lock.lock();
    pending_bytes_ -= size;
    pending_.pop_front();
    if (written) {
      add(name, size);
      ++stats_.written;
    } else {
      ++stats_.dropped;
      if (std::exchange(has_failed_, true)) complaint.clear();
    }
    changed_.notify_all();
    if (complaint.empty() || !options_.on_error) continue;
    lock.unlock();
    options_.on_error(complaint);
    lock.lock();
  }
}

}  // namespace fathom
