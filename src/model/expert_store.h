// ExpertStore: the routed experts of a model that is larger than memory. They lie in a file, record after record
// (model/stream_experts makes it), and a fixed number of slots holds the ones that are worth it (model/expert_cache).
// A few threads read past the page cache, what a layer waits for before what the next one is expected to want. Which
// experts are in memory, and when they came, cannot change a bit of a result.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/direct_file.h"
#include "base/result.h"
#include "model/expert_cache.h"
#include "tensor/storage.h"

namespace fathom {

/// What reading experts has cost so far. A use is one expert in one visit of its layer.
struct ExpertStats {
  int64_t uses = 0;
  int64_t hits = 0;             // in memory when the layer began
  int64_t arriving = 0;         // being read ahead when the layer began
  int64_t bytes_read = 0;       // of the file
  int64_t prefetched = 0;       // experts read ahead
  int64_t prefetched_used = 0;  // of them, wanted by the visit they were read for
  double wait_seconds = 0;      // that computing stood still

  double hit_rate() const { return uses > 0 ? static_cast<double>(hits) / static_cast<double>(uses) : 0; }
  double prefetch_accuracy() const {
    return prefetched > 0 ? static_cast<double>(prefetched_used) / static_cast<double>(prefetched) : 0;
  }
};

/// Where the records are: expert e of layer l at offset + e * record_bytes, both multiples of DirectFile::kAlignment.
struct ExpertLayer {
  int64_t offset = 0;
  int64_t record_bytes = 0;
};

class ExpertStore {
 public:
  /// Errors: the file cannot be opened, or ends before the last record.
  static Result<std::unique_ptr<ExpertStore>> open(const Path& path, std::vector<ExpertLayer> layers,
                                                   int64_t experts_per_layer);
  ~ExpertStore();
  ExpertStore(const ExpertStore&) = delete;
  ExpertStore& operator=(const ExpertStore&) = delete;

  /// Bytes of a slot, which holds any record.
  int64_t slot_bytes() const { return slot_bytes_; }
  int64_t num_records() const { return static_cast<int64_t>(layers_.size()) * experts_per_layer_; }
  int64_t num_slots() const { return cache_.num_slots(); }
  const DirectFile& file() const { return *file_; }
  /// Memory for `num_slots` experts, at least one; once, before the first visit.
  void allocate(int64_t num_slots);

  // A visit: one layer of one step. One at a time, from one thread.
  /// Begins the visit of a layer that uses these experts (each once), and asks the file for those that are missing.
  /// Returns them in the order in which they will be there: those in memory first. The order is valid until the next
  /// begin(). Empty after an error, until take_status().
  std::span<const int32_t> begin(int64_t layer, std::span<const ExpertUse> uses);
  /// Waits for the expert order[first]; how many from there on are in memory: at least 1, or 0 after an error. They
  /// stay until end().
  int64_t wait(int64_t first);
  /// The record of an expert between wait() and end().
  std::byte* record(int64_t layer, int64_t expert) const;
  /// The next `count` experts of the order are no longer needed.
  void end(int64_t count);

  /// Reads ahead what the next visit, of this layer, is expected to use, the largest shares first. Half of the slots at
  /// most are kept for it. Being wrong costs reads alone; an error counts when the expert is wanted. Not for the layer
  /// whose visit is going on.
  void prefetch(int64_t layer, std::span<const ExpertUse> uses);

  /// The first error since the last call: which read failed, at which byte of the file. After it the results of the
  /// step are void; the next step begins afresh.
  Status take_status();
  ExpertStats stats() const;

 private:
  struct Slot {
    int32_t unread = 0;     // pieces that are not in memory yet
    int32_t queued = 0;     // of them, pieces that no reader has taken
    bool wanted = false;    // a visit waits for it
    bool reserved = false;  // for the next visit; holds a pin
    bool ahead = false;     // and was read for it
    bool failed = false;    // a piece could not be read: dropped with its last pin
  };
  struct Piece {
    int32_t slot = 0;
    int64_t at = 0;  // in the record
  };

  ExpertStore(std::unique_ptr<DirectFile> file, std::vector<ExpertLayer> layers, int64_t experts_per_layer);
  // All with mutex_ held.
  bool is_loaded(int32_t slot) const;
  bool load(int32_t key, bool wanted);
  void want(int32_t slot);
  void unpin(int32_t slot);
  void cancel(int32_t slot);
  void request_missing();
  void release_visit();
  void release_reserved();
  void read_pieces();

  std::unique_ptr<DirectFile> file_;
  std::vector<ExpertLayer> layers_;
  int64_t experts_per_layer_;
  int64_t slot_bytes_ = 0;
  Storage memory_;

  mutable std::mutex mutex_;
  std::condition_variable has_pieces_;  // for the readers
  std::condition_variable has_read_;    // for the visit
  bool stopping_ = false;
  ExpertCache cache_;
  std::vector<Slot> slots_;
  std::deque<Piece> wanted_, ahead_;
  // The visit: of its order the first num_ended_ are done with, the first num_requested_ have a slot (and a pin, as
  // long as they are not done with).
  std::vector<int32_t> order_;
  int64_t layer_ = 0;
  int64_t num_ended_ = 0, num_requested_ = 0;
  int64_t num_reserved_ = 0;
  Status status_;      // of what a visit wanted
  Status last_error_;  // of any read
  ExpertStats stats_;
  std::vector<std::thread> readers_;
};

}  // namespace fathom
