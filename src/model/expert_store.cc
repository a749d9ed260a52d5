#include "model/expert_store.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace fathom {
namespace {

// A drive needs several reads at once to be at its best, and a single expert should have them too.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int kReaders = 8;

// Experts of one visit that are being read: enough to keep the readers busy. More would, in a prompt that uses all
// experts of a layer, push out as many that are worth keeping.
constexpr int64_t kMostWanted = 8;
constexpr int64_t kMostAhead = 32;

}  // namespace

Result<std::unique_ptr<ExpertStore>> ExpertStore::open(const Path& path, std::vector<ExpertLayer> layers,
                                                       int64_t experts_per_layer) {
  auto file = DirectFile::open(path);
  if (!file) return file.error();
  for (const ExpertLayer& layer : layers) {
    const int64_t end = layer.offset + layer.record_bytes * experts_per_layer;
    if (end > (*file)->num_bytes()) {
      return corrupt(path.string() + " has " + std::to_string((*file)->num_bytes()) + " bytes, its experts end at " +
                     std::to_string(end) + "; delete it, and it is made again");
    }
  }
  return std::unique_ptr<ExpertStore>(new ExpertStore(std::move(*file), std::move(layers), experts_per_layer));
}

ExpertStore::ExpertStore(std::unique_ptr<DirectFile> file, std::vector<ExpertLayer> layers, int64_t experts_per_layer)
    : file_(std::move(file)),
      layers_(std::move(layers)),
      experts_per_layer_(experts_per_layer),
      cache_(static_cast<int64_t>(layers_.size()), experts_per_layer, 0) {
  for (const ExpertLayer& layer : layers_) slot_bytes_ = std::max(slot_bytes_, layer.record_bytes);
}

ExpertStore::~ExpertStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  has_pieces_.notify_all();
  for (std::thread& reader : readers_) reader.join();
}

void ExpertStore::allocate(int64_t num_slots) {
  check(num_slots > 0 && readers_.empty(), "memory for experts is allocated once");
  cache_ = ExpertCache(static_cast<int64_t>(layers_.size()), experts_per_layer_, num_slots);
  slots_.assign(static_cast<size_t>(num_slots), {});
  memory_ = Storage::uninitialized(std::max(num_slots * slot_bytes_, int64_t{2} << 20));  // aligned as huge pages are
  for (int i = 0; i < kReaders; ++i) readers_.emplace_back([this] { read_pieces(); });
}

bool ExpertStore::is_loaded(int32_t slot) const {
  const Slot& s = slots_[static_cast<size_t>(slot)];
  return s.unread == 0 && !s.failed;
}

/// Gives the expert a slot and queues its reads, whose pin keeps the slot until they are done. False: no slot.
bool ExpertStore::load(int32_t key, bool wanted) {
  const int32_t slot = cache_.take_slot(key);
  if (slot == ExpertCache::kNone) return false;
  const int64_t bytes = layers_[static_cast<size_t>(cache_.layer_of(key))].record_bytes;
  const auto pieces = static_cast<int32_t>((bytes + kPieceBytes - 1) / kPieceBytes);
  slots_[static_cast<size_t>(slot)] = {.unread = pieces, .queued = pieces, .wanted = wanted};
  cache_.pin(slot);
  for (int64_t at = 0; at < bytes; at += kPieceBytes) (wanted ? wanted_ : ahead_).push_back({slot, at});
  has_pieces_.notify_all();
  return true;
}

/// What was read ahead is waited for now.
void ExpertStore::want(int32_t slot) {
  Slot& s = slots_[static_cast<size_t>(slot)];
  s.wanted = true;
  if (s.queued == 0) return;
  const auto is_of_slot = [=](const Piece& p) { return p.slot == slot; };
  std::ranges::copy_if(ahead_, std::back_inserter(wanted_), is_of_slot);
  std::erase_if(ahead_, is_of_slot);
}

void ExpertStore::unpin(int32_t slot) {
  cache_.unpin(slot);
  Slot& s = slots_[static_cast<size_t>(slot)];
  if (cache_.is_pinned(slot) || !s.failed) return;
  s.failed = false;
  cache_.drop(cache_.key_of(slot));
}

/// Takes back what was to be read ahead, of which no reader has begun a piece.
void ExpertStore::cancel(int32_t slot) {
  std::erase_if(ahead_, [=](const Piece& p) { return p.slot == slot; });
  slots_[static_cast<size_t>(slot)] = {.failed = true};
  unpin(slot);
}

/// Reads for the visit, as far as there are slots and readers for them.
void ExpertStore::request_missing() {
  int64_t reading = 0;
  for (int64_t i = num_ended_; i < num_requested_; ++i) {
    reading += !is_loaded(cache_.slot_of(cache_.key(layer_, order_[static_cast<size_t>(i)])));
  }
  for (; num_requested_ < std::ssize(order_) && reading < kMostWanted; ++num_requested_, ++reading) {
    const int32_t key = cache_.key(layer_, order_[static_cast<size_t>(num_requested_)]);
    if (!load(key, true)) return;
    cache_.pin(cache_.slot_of(key));
  }
}

void ExpertStore::release_visit() {
  for (; num_ended_ < num_requested_; ++num_ended_) {
    const int32_t slot = cache_.slot_of(cache_.key(layer_, order_[static_cast<size_t>(num_ended_)]));
    slots_[static_cast<size_t>(slot)].wanted = false;
    unpin(slot);
  }
  order_.clear();
  num_ended_ = num_requested_ = 0;
}

/// What was kept for a visit has no further claim, and what was not begun to be read for it is not needed.
void ExpertStore::release_reserved() {
  for (int32_t slot = 0; num_reserved_ > 0 && slot < std::ssize(slots_); ++slot) {
    Slot& s = slots_[static_cast<size_t>(slot)];
    if (!s.reserved) continue;
    const bool is_idle = s.ahead && s.unread > 0 && s.queued == s.unread && !s.wanted;
    s.reserved = s.ahead = false;
    --num_reserved_;
    unpin(slot);
    if (is_idle) cancel(slot);
  }
}

std::span<const int32_t> ExpertStore::begin(int64_t layer, std::span<const ExpertUse> uses) {
  const std::lock_guard lock(mutex_);
  check(!slots_.empty(), "experts have memory before the first step");
  release_visit();
  if (!status_) return {};
  layer_ = layer;
  cache_.visit(layer, uses);
  std::vector<int32_t> arriving, missing;
  for (const ExpertUse& use : uses) {
    const int32_t slot = cache_.slot_of(cache_.key(layer, use.expert));
    if (slot == ExpertCache::kNone) {
      missing.push_back(use.expert);
      continue;
    }
    const Slot& s = slots_[static_cast<size_t>(slot)];
    if (s.failed && status_) status_ = last_error_;
    if (s.reserved && s.ahead) ++stats_.prefetched_used;
    (is_loaded(slot) ? order_ : arriving).push_back(use.expert);
    cache_.pin(slot);
    want(slot);
  }
  stats_.uses += std::ssize(uses);
  stats_.hits += std::ssize(order_);
  stats_.arriving += std::ssize(arriving);
  order_.insert(order_.end(), arriving.begin(), arriving.end());
  num_requested_ = std::ssize(order_);
  order_.insert(order_.end(), missing.begin(), missing.end());
  release_reserved();
  request_missing();
  return order_;
}

int64_t ExpertStore::wait(int64_t first) {
  std::unique_lock lock(mutex_);
  check(first == num_ended_ && first < std::ssize(order_), "a visit takes its experts in order");
  const auto start = std::chrono::steady_clock::now();
  for (bool waited = false;; waited = true) {
    request_missing();
    int64_t count = 0;
    while (first + count < num_requested_ &&
           is_loaded(cache_.slot_of(cache_.key(layer_, order_[static_cast<size_t>(first + count)])))) {
      ++count;
    }
    if (!status_) count = 0;
    if (count > 0 || !status_) {
      if (waited) {
        stats_.wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      }
      return count;
    }
    has_read_.wait(lock);
  }
}

std::byte* ExpertStore::record(int64_t layer, int64_t expert) const {
  const std::lock_guard lock(mutex_);
  const int32_t slot = cache_.slot_of(cache_.key(layer, expert));
  check(slot != ExpertCache::kNone && is_loaded(slot), "an expert is used while it is in memory");
  return static_cast<std::byte*>(memory_.data()) + slot * slot_bytes_;
}

void ExpertStore::end(int64_t count) {
  const std::lock_guard lock(mutex_);
  check(num_ended_ + count <= num_requested_, "a visit ends what it has begun");
  for (int64_t i = 0; i < count; ++i, ++num_ended_) {
    const int32_t slot = cache_.slot_of(cache_.key(layer_, order_[static_cast<size_t>(num_ended_)]));
    slots_[static_cast<size_t>(slot)].wanted = false;
    unpin(slot);
  }
  request_missing();
}

void ExpertStore::prefetch(int64_t layer, std::span<const ExpertUse> uses) {
  std::vector<ExpertUse> by_share(uses.begin(), uses.end());
  std::ranges::sort(by_share, [](const ExpertUse& a, const ExpertUse& b) {
    return a.share != b.share ? a.share > b.share : a.expert < b.expert;
  });
  const std::lock_guard lock(mutex_);
  check(layer != layer_ || num_ended_ == std::ssize(order_), "what is read ahead is of another layer");
  if (!status_) return;
  const int64_t most = cache_.num_slots() / 2;
  const auto reserve = [&](int32_t slot) {
    if (slots_[static_cast<size_t>(slot)].reserved) return;
    slots_[static_cast<size_t>(slot)].reserved = true;
    cache_.pin(slot);
    ++num_reserved_;
  };
  // Those in memory are kept before others are read: none may take the slot of another.
  for (const ExpertUse& use : by_share) {
    const int32_t slot = cache_.slot_of(cache_.key(layer, use.expert));
    if (slot != ExpertCache::kNone && num_reserved_ < most) reserve(slot);
  }
  int64_t reading = 0;
  for (const ExpertUse& use : by_share) {
    const int32_t key = cache_.key(layer, use.expert);
    if (cache_.slot_of(key) != ExpertCache::kNone) continue;
    if (num_reserved_ >= most || reading++ == kMostAhead || !load(key, false)) return;
    reserve(cache_.slot_of(key));
    slots_[static_cast<size_t>(cache_.slot_of(key))].ahead = true;
    ++stats_.prefetched;
  }
}

Status ExpertStore::take_status() {
  const std::lock_guard lock(mutex_);
  if (status_) return {};
  release_visit();
  release_reserved();
  return std::exchange(status_, Status{});
}

ExpertStats ExpertStore::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void ExpertStore::read_pieces() {
  std::unique_lock lock(mutex_);
  for (;;) {
    has_pieces_.wait(lock, [this] { return stopping_ || !wanted_.empty() || !ahead_.empty(); });
    if (stopping_) return;
    std::deque<Piece>& queue = wanted_.empty() ? ahead_ : wanted_;
    const Piece piece = queue.front();
    queue.pop_front();
    Slot& slot = slots_[static_cast<size_t>(piece.slot)];
    --slot.queued;
    const int32_t key = cache_.key_of(piece.slot);
    const ExpertLayer& layer = layers_[static_cast<size_t>(cache_.layer_of(key))];
    const int64_t expert = key % experts_per_layer_;
    const int64_t bytes = std::min(kPieceBytes, layer.record_bytes - piece.at);
    std::byte* into = static_cast<std::byte*>(memory_.data()) + piece.slot * slot_bytes_ + piece.at;
    lock.unlock();
    const Status read =
        file_->read(layer.offset + expert * layer.record_bytes + piece.at, {into, static_cast<size_t>(bytes)});
    lock.lock();
    if (read) stats_.bytes_read += bytes;
    if (!read) {
      slot.failed = true;
      last_error_ = read;
      if (slot.wanted && status_) status_ = read;
    }
    if (--slot.unread == 0) unpin(piece.slot);
    has_read_.notify_all();
  }
}

}  // namespace fathom
