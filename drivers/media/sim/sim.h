// SPDX-License-Identifier: BSD-3-Clause
/// The simulated medium: ordinary memory that records every call of the persist seam, so that a
/// tester can build every image a crash may leave (tests/support/explorer.h does).
///
/// Two objects:
/// - a `sim_disk` holds the bytes the next start finds;
/// - a `sim_media` is one *life*: a copy-on-write mapping of a disk, at another address each time,
///   with the trace of what that life did. Nothing a life does reaches its disk, unless settle()
///   says so: the life's end is a crash, and which bytes survive it is for the tester to choose.
///
/// By path, `sim:NAME` is a disk of this process: create_media() makes it, open_media() starts a
/// life of it, and the end of that life (close or destructor) settles it, as a file would keep it.
/// While a life that the tester started is running, open_media() of its path() joins that life, so
/// production code that opens regions by path runs inside the trace.
///
/// Stores that went round the seam (rte_ring headers, bytes a device put there) are found by
/// comparing with a shadow: a flushed line at flush(), every touched page at drain() and note().
///
/// Marks are durable at once, unless the tester holds them (hold_marks()): then what was drained is
/// only ordered, as in class `file`, until reach_mark() says how far the medium has come. A crash
/// keeps every drain up to the last mark reached and, of the later ones, some first part.
///
/// Thread-safety: as media. With threads that run one at a time (tests/support/schedule.h) the
/// trace is exact; with free-running threads it is one legal order. Each seam call is a hook point
/// ("seam.store", "seam.write", "seam.exchange", "seam.flush", "seam.drain").
///
///     auto disk = sim_disk::create(256 << 10);
///     auto life = disk->boot();                    // a media&
///     life->store(word, 1); life->flush(word, 8); life->drain();
///     for (const sim_event& e : life->trace().events) ...
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "media/media.h"

namespace chainring {

enum class sim_call : std::uint8_t {
  store,   ///< one word by store, store_release or a compare_exchange that succeeded
  write,   ///< words of a write(): in no order until their thread drains
  direct,  ///< words that changed without the seam: in no order
  flush,   ///< `count` bytes from `offset`
  drain,   ///< by `thread`
  grow,    ///< to `offset` bytes
  scratch, ///< `count` bytes from `offset` declared scratch
  retract, ///< the same taken back; the words' visible values follow as a `direct` event
  note,    ///< `offset` is the value given to note()
  hold,    ///< marks are no longer durable at once
  reach,   ///< marks became durable: everything before event `offset` of the trace survives a crash
};

struct sim_event {
  sim_call call{};
  std::uint16_t thread = 0; ///< index of the thread in this life, in order of first call
  std::uint64_t offset = 0; ///< bytes from the region's start
  std::uint64_t count = 0;  ///< words of a store, write or direct; else bytes
  std::uint64_t values = 0; ///< index of the first word's value in sim_trace::values
  site where{};
};

/// What one life did, in the order in which it became visible.
struct sim_trace {
  std::vector<sim_event> events;
  std::vector<std::uint64_t> values;
};

/// The driver of paths sim:NAME, added to the table wherever this is linked.
extern const media_driver sim_driver;

class sim_media;
namespace detail {
class sim_life;
struct sim_store;
} // namespace detail

/// The bytes a start finds: memory that lives are mapped from.
class sim_disk : public std::enable_shared_from_this<sim_disk> {
 public:
  /// `size` zero bytes (rounded up to a page), growable to `size_max` (0: four times the size).
  /// A name makes it known as `sim:NAME`; without one it gets a name of its own. Null where the
  /// name is taken.
  static std::shared_ptr<sim_disk> create(std::uint64_t size, std::uint64_t size_max = 0,
                                          std::string name = {});
  ~sim_disk();
  sim_disk(const sim_disk&) = delete;
  sim_disk& operator=(const sim_disk&) = delete;

  /// Starts a life. Recording costs a shadow of the pages it touches; without it the seam is as
  /// fast as ordinary memory. One writable life of a disk at a time.
  [[nodiscard]] std::unique_ptr<sim_media> boot(bool recorded = true);

  /// The bytes themselves, size() of them. Change them only while no life runs.
  [[nodiscard]] std::span<std::byte> bytes() noexcept;
  [[nodiscard]] std::uint64_t size() const noexcept;
  [[nodiscard]] std::uint64_t size_max() const noexcept;
  /// Changes the size that the next life sees.
  void resize(std::uint64_t size) noexcept;
  /// Sets how many bytes the next lives say that one drain may cover.
  void limit_drains(std::uint64_t bytes) noexcept;
  /// `sim:NAME`.
  [[nodiscard]] const std::string& path() const noexcept;

 private:
  friend class detail::sim_life;
  friend result<std::unique_ptr<media>> sim_join(const std::shared_ptr<sim_disk>&, bool);
  sim_disk() = default;
  std::unique_ptr<detail::sim_store> store_;
};

/// One life of a disk.
class sim_media final : public media {
 public:
  /// A life of a disk of its own.
  static std::unique_ptr<sim_media> create(std::uint64_t size, std::uint64_t size_max = 0);
  /// The same, of a disk that holds a copy of `image`.
  static std::unique_ptr<sim_media> from_image(std::span<const std::byte> image,
                                               std::uint64_t size_max = 0);
  /// Used by sim_disk and the driver.
  explicit sim_media(std::shared_ptr<detail::sim_life> life, bool read_only, bool owner);
  ~sim_media() override;

  [[nodiscard]] const char* driver_name() const noexcept override { return "sim"; }
  [[nodiscard]] mark_t mark() noexcept override;
  [[nodiscard]] bool durable(mark_t mark) noexcept override;
  [[nodiscard]] std::uint64_t drain_bytes_max() const noexcept override;
  [[nodiscard]] result<void> grow(std::uint64_t size) override;
  [[nodiscard]] result<void> close() override;
  /// The observer is asked before a call is recorded: a flush or drain it suppresses leaves no
  /// trace. It stays with the life, whoever joined it.
  void observe(persist_observer* observer) noexcept override;
  void declare_scratch(const void* from, std::size_t n) noexcept override;
  void retract_scratch(const void* from, std::size_t n) noexcept override;

  /// The visible bytes.
  [[nodiscard]] std::span<const std::byte> image() const noexcept { return {base(), size()}; }
  [[nodiscard]] const std::shared_ptr<sim_disk>& disk() const noexcept;

  /// What this life has done. Read it while no thread is in the seam.
  [[nodiscard]] const sim_trace& trace() const noexcept;
  /// The same, moved out; the trace starts again empty.
  [[nodiscard]] sim_trace take_trace() noexcept;
  /// Puts a marker in the trace, at this moment of the calling thread.
  void note(std::uint64_t value, site s = site::current()) noexcept;
  /// Takes what is visible now for durable: writes it to the disk, and empties the trace.
  void settle() noexcept;
  /// From here on a mark is durable only once reach_mark() names it or a later one. Every mark
  /// taken before is durable. Ends with reach_every_mark(), or with the life.
  void hold_marks(site s = site::current());
  void reach_mark(mark_t mark, site s = site::current());
  void reach_every_mark(site s = site::current());
  /// Changes visible bytes without a trace, as if the life had begun with them.
  void poke(std::uint64_t offset, const void* from, std::size_t n) noexcept;

  /// Misuses of the seam, each a sentence with its place: a store that is not aligned, or outside
  /// the region; a flush of scratch or outside the region; scratch that is not whole lines.
  [[nodiscard]] const std::vector<std::string>& violations() const noexcept;
  /// Media that joined this life by its path and are still open.
  [[nodiscard]] unsigned joined() const noexcept;

 private:
  std::shared_ptr<detail::sim_life> life_;
  bool read_only_ = false;
  bool owner_ = false; ///< started the life; others joined it by path
  bool closed_ = false;
};

/// Opens the disk as its path does: joins the life that runs, or starts one that settles at its
/// end.
result<std::unique_ptr<media>> sim_join(const std::shared_ptr<sim_disk>& disk, bool read_only);

/// Forgets the disk `sim:NAME` (false where there is none). A life of it may still be running.
bool sim_forget(const std::string& path);

} // namespace chainring
