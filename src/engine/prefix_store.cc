#include "engine/prefix_store.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_error.h"
#include "base/file_set.h"

namespace fathom {
namespace {

constexpr std::array<char, 8> kMagic = {'F', 'A', 'T', 'H', 'P', 'G', 'E', '1'};
constexpr std::string_view kSuffix = ".page", kPartial = ".page.partial";
constexpr int64_t kMaxPendingBytes = int64_t{64} << 20;  // a slow disk must not fill the memory
constexpr size_t kHexDigits = 16;
constexpr int64_t kPageTokens = 64;
constexpr auto kDepthTime = std::chrono::seconds(10);  // more than it takes to compute a page
constexpr size_t kMostTokens = size_t{1} << 20;        // of a prefix that is kept; more than any model's context

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
  std::array<char, kHexDigits> text;
  for (size_t i = kHexDigits; i > 0; --i, value >>= 4) text[i - 1] = "0123456789abcdef"[value & 15];
  return {text.data(), text.size()};
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
  const auto least = static_cast<int64_t>(file_bytes(kPageTokens, page_bytes));
  const auto most = static_cast<int64_t>(file_bytes(kMostTokens, page_bytes));
  if (options.max_bytes < least) {
    return invalid(std::to_string(options.max_bytes) + " bytes have no room for a page of this model; give " +
                   std::to_string(least) + " or more");
  }
  if (auto s = make_directories(directory); !s) return s.error();
  std::error_code failed;
  std::unique_ptr<PrefixStore> store(new PrefixStore(std::move(options), page_bytes));
  const std::lock_guard lock(store->mutex_);
  std::filesystem::directory_iterator entries(directory, failed);
  for (; !failed && entries != std::filesystem::directory_iterator(); entries.increment(failed)) {
    const std::string name = entries->path().filename().string();
    std::error_code gone;  // between listing and looking
    if (is_ours(name, kPartial)) std::filesystem::remove(entries->path(), gone);
    if (!is_ours(name, kSuffix) || !std::filesystem::is_regular_file(entries->symlink_status(gone))) continue;
    const auto bytes = static_cast<int64_t>(entries->file_size(gone));
    const auto used = gone ? std::filesystem::file_time_type{} : entries->last_write_time(gone);
    if (gone) continue;
    if (store->is_own(name) && bytes > most) {  // no page of ours has that many: it would push out all others
      std::filesystem::remove(entries->path(), gone);
      ++store->stats_.damaged;
      continue;
    }
    const int64_t turn = store->is_own(name) ? 0 : -1;
    store->add(name, {.bytes = bytes, .used = turn, .place = static_cast<int64_t>(used.time_since_epoch().count())});
  }
  if (failed) return file_error("list", directory, failed.value());
  std::string complaint;
  store->make_room(0, complaint);
  return complaint.empty() ? Result<std::unique_ptr<PrefixStore>>(std::move(store)) : io_error(complaint);
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
  // The next start sees times alone. Those that were not used keep theirs, which are older.
  const auto now = std::filesystem::file_time_type::clock::now();
  int64_t rank = static_cast<int64_t>(order_.size());
  for (const auto& [used, place, name] : order_) {
    std::error_code gone;
    --rank;
    if (used > 0) {
      std::filesystem::last_write_time(options_.directory / name, now - std::chrono::microseconds(rank), gone);
    }
  }
}

std::string PrefixStore::name_of(uint64_t hash) const {
  return hex(options_.identity) + "-" + hex(hash) + std::string(kSuffix);
}

bool PrefixStore::is_own(const std::string& name) const { return name.starts_with(hex(options_.identity)); }

void PrefixStore::add(const std::string& name, File file) {
  erase(name);
  order_.emplace(file.used, file.place, name);
  if (file.is_written) stats_.bytes += file.bytes;
  num_own_ += is_own(name);
  files_.emplace(name, file);
}

/// From the list; the file is the caller's.
void PrefixStore::erase(const std::string& name) {
  const auto it = files_.find(name);
  if (it == files_.end()) return;
  order_.erase({it->second.used, it->second.place, name});
  if (it->second.is_written) stats_.bytes -= it->second.bytes;
  num_own_ -= is_own(name);
  files_.erase(it);
}

void PrefixStore::place(const std::string& name, int64_t used, int64_t place) {
  const auto it = files_.find(name);
  if (it == files_.end()) return;
  order_.erase({it->second.used, it->second.place, name});
  it->second.used = used;
  it->second.place = place;
  order_.emplace(used, place, name);
}

/// What cannot be removed stays in the list, and the first is complained of.
void PrefixStore::make_room(int64_t bytes, std::string& complaint) {
  auto next = order_.begin();
  while (next != order_.end() && stats_.bytes + bytes > options_.max_bytes) {
    const std::string name = std::get<std::string>(*next++);
    if (!files_.at(name).is_written) continue;
    std::error_code failed;
    std::filesystem::remove(options_.directory / name, failed);
    if (failed && complaint.empty()) complaint = file_error("remove", options_.directory / name, failed.value()).text;
    if (!failed) erase(name);
  }
}

bool PrefixStore::contains(uint64_t hash) const {
  const std::lock_guard lock(mutex_);
  return files_.contains(name_of(hash));
}

void PrefixStore::use(std::span<const uint64_t> hashes) {
  const std::lock_guard lock(mutex_);
  ++num_uses_;
  for (size_t i = 0; i < hashes.size(); ++i) place(name_of(hashes[i]), num_uses_, -static_cast<int64_t>(i));
}

void PrefixStore::save(uint64_t hash, std::span<const int32_t> prefix, const std::byte* page) {
  const size_t size = file_bytes(prefix.size(), page_bytes_);
  const std::string name = name_of(hash);
  {
    const std::lock_guard lock(mutex_);
    if (discarded_) return;
    if (const auto it = files_.find(name); it != files_.end()) {
      std::error_code unknown;
      const auto status = std::filesystem::symlink_status(options_.directory / name, unknown);
      if (!it->second.is_written || std::filesystem::is_regular_file(status)) return;
      erase(name);  // somebody has removed it
    }
    const bool is_alone = pending_.empty();  // a page larger than the room is written too
    if ((!is_alone && pending_bytes_ + static_cast<int64_t>(size) > kMaxPendingBytes) || prefix.size() > kMostTokens) {
      ++stats_.dropped;
      return;
    }
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
    pending_bytes_ += static_cast<int64_t>(size);
    pending_.push_back(std::move(next));
    add(name, {.bytes = static_cast<int64_t>(size),
               .used = ++num_uses_,
               .place = 1 - std::ssize(prefix) / kPageTokens,
               .is_written = false});
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
    if (!files_.contains(name)) return false;
    const auto next =
        std::ranges::find_if(pending_, [&](const Pending& p) { return p.hash == hash && !p.is_cancelled; });
    if (next != pending_.end()) return unpack(next->bytes, hash, prefix, page);  // not in its file yet
  }
  const Path path = options_.directory / name;
  std::error_code failed;
  const bool is_file = std::filesystem::is_regular_file(std::filesystem::symlink_status(path, failed));
  const bool is_good = is_file && [&] {
    const auto bytes = read_file(path, static_cast<int64_t>(file_bytes(prefix.size(), page_bytes_)));
    return bytes.ok() && unpack(*bytes, hash, prefix, page);
  }();
  if (is_file && !is_good) std::filesystem::remove(path, failed);
  const std::lock_guard lock(mutex_);
  if (!is_good) erase(name);
  stats_.read += is_good;
  stats_.damaged += is_file && !is_good;
  return is_good;
}

/// The writer passes it by, or removes what it is writing.
void PrefixStore::cancel(Pending& page) {
  page.is_cancelled = true;
  if (&page == &pending_.front()) return;  // its bytes are being written
  pending_bytes_ -= std::ssize(page.bytes);
  page.bytes.clear();
}

void PrefixStore::remove(uint64_t hash) {
  const std::lock_guard lock(mutex_);
  const std::string name = name_of(hash);
  const auto it = files_.find(name);
  if (it == files_.end()) return;
  std::error_code failed;
  if (it->second.is_written) {
    std::filesystem::remove(options_.directory / name, failed);
  } else {
    for (Pending& page : pending_) {
      if (page.hash == hash && !page.is_cancelled) cancel(page);
    }
  }
  erase(name);
}

void PrefixStore::discard() {
  const std::lock_guard lock(mutex_);
  discarded_ = true;
  for (Pending& page : pending_) cancel(page);
  std::vector<std::string> own;
  for (const auto& [name, file] : files_) {
    if (is_own(name)) own.push_back(name);
  }
  for (const std::string& name : own) {
    std::error_code failed;
    std::filesystem::remove(options_.directory / name, failed);
    erase(name);
  }
}

PrefixStoreStats PrefixStore::stats() const {
  const std::lock_guard lock(mutex_);
  PrefixStoreStats stats = stats_;
  stats.pages = num_own_;
  return stats;
}

Status PrefixStore::write_page(const Pending& page, int64_t depth) const {
  const Path path = options_.directory / name_of(page.hash);
  auto file = AtomicFile::create(path, AtomicFile::Links::kReplace);
  if (!file) return file.error();
  if (auto s = file->write(page.bytes); !s) return s;
  if (auto s = file->commit(); !s) return s;
  // Should we be killed: the first pages of a prefix, which are written first, are to go last.
  std::error_code gone;
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - depth * kDepthTime, gone);
  return {};
}

/// The writer: one page after the other, the lock not held meanwhile.
void PrefixStore::write() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !pending_.empty(); });
    if (pending_.empty()) return;
    const Pending& next = pending_.front();  // a deque: it stays where it is when others join
    const std::string name = name_of(next.hash);
    std::string complaint;
    make_room(std::ssize(next.bytes), complaint);
    Status written = {};
    if (!next.is_cancelled) {
      const int64_t depth = -files_.at(name).place;
      lock.unlock();
      written = write_page(next, depth);
      lock.lock();
    }
    if (!written && complaint.empty()) complaint = written.error().text;
    pending_bytes_ -= std::ssize(next.bytes);
    const bool is_cancelled = next.is_cancelled;
    pending_.pop_front();
    if (is_cancelled) {
      std::error_code failed;
      if (!files_.contains(name)) std::filesystem::remove(options_.directory / name, failed);
    } else if (written) {
      if (const auto it = files_.find(name); it != files_.end() && !std::exchange(it->second.is_written, true)) {
        stats_.bytes += it->second.bytes;
      }
      ++stats_.written;
    } else {
      erase(name);
      ++stats_.dropped;
    }
    if (complaint.empty() || std::exchange(has_failed_, true) || !options_.on_error) continue;
    lock.unlock();
    options_.on_error(complaint);
    lock.lock();
  }
}

}  // namespace fathom
