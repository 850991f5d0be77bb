// SPDX-License-Identifier: BSD-3-Clause
/// Inside of the simulated medium: a disk's store, and one life of it with its recorder.
#pragma once
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "sim.h"

namespace chainring::detail {

/// Memory file behind a disk, and the mappings its lives take turns in, so that two lives after one
/// another never have one address.
struct sim_store {
  sim_store(std::uint64_t size, std::uint64_t size_max, std::string path);
  ~sim_store();
  sim_store(const sim_store&) = delete;
  sim_store& operator=(const sim_store&) = delete;

  std::byte* take_mapping(); ///< with the bytes that the disk has now
  /// Forgets what was changed in the mapping: nothing behind its first `changed` bytes was.
  void give_back(std::byte* mapping, std::uint64_t changed) noexcept;

  int fd = -1;
  std::uint64_t size;
  std::uint64_t size_max;
  std::uint64_t drain_bytes_max = UINT64_MAX;
  std::string path;
  std::byte* shared = nullptr;
  /// The mappings, and how many bytes at the start of an idle one may differ from the disk's.
  std::map<std::byte*, std::uint64_t> mappings;
  std::deque<std::byte*> idle;
  std::mutex lock;
  std::weak_ptr<sim_life> current;
};

/// Calls `page(offset)` for each page of a private mapping that may differ from its file: those
/// that were copied on a write (pagemap) or with the disk, or every page where that cannot be told.
template <class F> void for_each_touched_page(const std::byte* base, std::uint64_t size, F page);

class sim_life final : public persist_observer {
 public:
  sim_life(std::shared_ptr<sim_disk> disk, bool recorded, bool settle_at_end);
  ~sim_life() override;

  void on_store(const std::uint64_t* word, std::uint64_t value, const site& s) noexcept override;
  void on_write(const void* to, const void* from, std::size_t n, const site& s) noexcept override;
  bool on_flush(const void* from, std::size_t n, const site& s) noexcept override;
  bool on_drain(const site& s) noexcept override;
  bool on_exchange(std::uint64_t* word, std::uint64_t& expected, std::uint64_t value,
                   const site& s) noexcept override;

  void note(std::uint64_t value, const site& s) noexcept;
  mark_t mark() noexcept;
  bool durable(mark_t mark) noexcept;
  void hold_marks(const site& s);
  void reach_marks(mark_t through, bool holding, const site& s);
  void scratch(const void* from, std::size_t n, bool declared) noexcept;
  void settle() noexcept;
  void poke(std::uint64_t offset, const void* from, std::size_t n) noexcept;
  void violation(const char* what, std::uint64_t offset, const site& s);
  result<void> grow(std::uint64_t to);

  std::shared_ptr<sim_disk> disk;
  sim_store& store;
  const bool recorded;
  const bool settle_at_end;
  std::byte* base = nullptr;
  std::uint64_t size;
  sim_trace trace;
  std::vector<std::string> violations;
  persist_observer* user = nullptr;
  std::vector<sim_media*> handles;
  unsigned writers = 0; ///< joined by path
  unsigned readers = 0;
  std::mutex lock;

 private:
  struct span_of {
    std::uint64_t offset = 0;
    std::uint64_t end = 0;
  };
  unsigned thread_index() noexcept;
  bool inside(const void* at, std::size_t n, const char* what, const site& s);
  void record(sim_call call, unsigned thread, std::uint64_t offset, std::uint64_t count,
              const site& s);
  void record_words(sim_call call, unsigned thread, std::uint64_t offset,
                    const std::uint64_t* values, std::uint64_t n, const site& s);
  /// Records the words of [offset, end) that changed without the seam.
  void find_direct(std::uint64_t offset, std::uint64_t end, unsigned thread, const site& s);
  void find_direct_everywhere(const site& s);
  [[nodiscard]] bool in_flight(std::uint64_t offset) const noexcept;
  [[nodiscard]] bool is_scratch(std::uint64_t offset) const noexcept;

  std::uint64_t id_;
  std::byte* shadow_ = nullptr;
  std::map<std::thread::id, unsigned> threads_;
  struct held_mark {
    mark_t mark;
    std::uint64_t events; ///< of the trace when it was taken: what it covers
  };
  mark_t marks_ = 0;
  bool holding_ = false;           ///< marks are held
  mark_t reached_ = 0;             ///< while they are, the last that is durable
  std::vector<held_mark> held_;    ///< the others
  std::vector<span_of> in_flight_; ///< per thread: recorded, and perhaps not yet visible
  std::map<std::uint64_t, std::uint64_t> scratch_; ///< offset -> end
};

} // namespace chainring::detail
