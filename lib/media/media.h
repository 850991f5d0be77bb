// SPDX-License-Identifier: BSD-3-Clause
/// Media: memory that holds durable bytes, and the persist seam, the only way to write them.
///
/// A `media` is one mapped region of memory together with a way to make its bytes durable. Drivers
/// (dax, file, hugetlb, sim) create them. All code above stores durable bytes through the six calls
/// of the persist seam and in no other way.
///
/// **What a crash leaves.** Every protocol in this tree relies on these rules and on no others.
/// Within a cache line, store()s persist in program order, so a crash leaves some prefix of the
/// stores that were not drained yet. Lines are independent of each other. Of the 8-byte words of a
/// write() any subset may persist until the thread that wrote them drains. A drain covers only the
/// flushes of its own thread. Eight aligned bytes never tear. The death of the process keeps every
/// store that was visible, and those that were not drained may still be lost in a later power cut.
///
/// **Order within a burst:** first all stores and locked instructions, then all flushes, then the
/// drain. A locked instruction behind a flush would wait for that flush.
///
/// **Thread-safety:** any thread may call the seam. Two threads must not write the same word,
/// except through compare_exchange().
///
/// The protocols that call the seam have ordering labels of their own, in their own files.
///
/// Ordering labels:
///   [size-read]  size() is loaded relaxed. The load orders nothing: a thread learns of growth from
///     the call that asked for it, and that call orders the two.
///   [seam-store]  store() is relaxed and orders nothing by itself: the next [seam-commit] makes it
///     visible, flush and drain make it durable.
///   [seam-commit]  store_release() and compare_exchange() store a commit word with release, after
///     the stores that the word makes valid; pairs with [seam-commit-read] and [line-copied].
///   [seam-commit-read]  compare_exchange() loads a commit word with acquire; pairs with
///     [seam-commit].
///   [visible-drain]  drain() of a medium that has nothing to write back is a fence: everything
///     stored before it is visible before anything stored after it, as with the drains of other
///     media.
///   [losses-read]  losses() is loaded with acquire; pairs with [loss-counted].
///   [losses-read-behind]  lost_since() has an acquire fence between what the thread has read and
///     the load of losses(); pairs with [loss-counted].
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../base/cacheline.h"
#include "../base/crc32c.h"
#include "../base/error.h"
#include "../base/site.h"

namespace chainring {

/// What a region survives. The class follows from the place where the region lies and from the
/// driver that suits the place. A caller that asks for a class (media_options::durability) gets the
/// driver that gives this class, which refuses a place that cannot have it.
enum class durability_class : std::uint8_t {
  power = 1,   ///< survives power loss: devdax, or fsdax mapped with MAP_SYNC
  file = 2,    ///< survives power loss: a regular file behind a redo journal
  process = 3, ///< survives the death of the process, not power loss: hugetlbfs, tmpfs
  /// executes the instructions of `power` on ordinary memory, for tests and benchmarks
  emulated = 4,
};

[[nodiscard]] const char* to_string(durability_class c) noexcept;
[[nodiscard]] result<durability_class> parse_durability_class(std::string_view text);

/// The accepted values of an option that asks for a class, for help texts and checks of arguments.
inline constexpr std::array<const char*, 5> durability_choices = {"auto", "power", "file",
                                                                  "process", "emulated"};
/// Parses one of durability_choices. Returns nothing for "auto", which leaves the class to the
/// place.
[[nodiscard]] result<std::optional<durability_class>>
parse_durability_choice(std::string_view text);

/// A point in the durable order. Marks of one media can be compared with <.
using mark_t = std::uint64_t;

/// Sees every call of the seam, for the simulator and for fault and mutation runs. It is called on
/// the calling thread, before the call takes effect. If on_flush() or on_drain() returns false,
/// that flush or drain does not happen.
class persist_observer {
 public:
  virtual ~persist_observer() = default;
  virtual void on_store(const std::uint64_t* word, std::uint64_t value, const site& s) noexcept = 0;
  virtual void on_write(const void* to, const void* from, std::size_t n,
                        const site& s) noexcept = 0;
  virtual bool on_flush(const void* from, std::size_t n, const site& s) noexcept = 0;
  virtual bool on_drain(const site& s) noexcept = 0;
  /// Performs a compare_exchange(), so that an observer can see the exchange and its own record as
  /// one step. This implementation is right while threads run one at a time: it calls on_store() if
  /// the exchange will succeed, and then exchanges.
  virtual bool on_exchange(std::uint64_t* word, std::uint64_t& expected, std::uint64_t value,
                           const site& s) noexcept;
};

/// What a journal has done since its region was opened. All are 0 in classes without a journal.
struct journal_statistics {
  std::uint64_t commits = 0;   ///< group commits, each with one sync
  std::uint64_t bytes = 0;     ///< written by them, headers included
  std::uint64_t seal_tsc = 0;  ///< TSC cycles in which the checksums of these were computed
  std::uint64_t write_tsc = 0; ///< TSC cycles from the start of each write to the end of its sync
};

/// One mapped region of durable memory.
class media {
 public:
  media(const media&) = delete;
  media& operator=(const media&) = delete;
  virtual ~media() = default;

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  /// Size of the region in bytes, all of which may be used now.
  [[nodiscard]] std::uint64_t size() const noexcept {
    // [size-read]
    return size_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] durability_class durability() const noexcept { return class_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] virtual const char* driver_name() const noexcept = 0;
  /// Any thread may call it. The counts are in DRAM and begin at 0 with each open.
  [[nodiscard]] virtual journal_statistics journal_counts() const noexcept { return {}; }

  // --- the persist seam -------------------------------------------------------------------------

  /// Stores one aligned word through the cache, in program order with other store()s of this
  /// thread.
  void store(std::uint64_t* word, std::uint64_t value, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_store(word, value, s);
    std::atomic_ref(*word).store(value, std::memory_order_relaxed); // [seam-store]
  }

  /// Stores neighbouring words, the lowest address first: the same as so many calls of store(), and
  /// cheaper.
  template <std::size_t n>
  void store_run(std::uint64_t* words, const std::uint64_t (&values)[n],
                 site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      return observed_run(words, values, n, s);
    const auto in_order = [&]<std::size_t... i>(std::index_sequence<i...>) {
      (std::atomic_ref(words[i]).store(values[i], std::memory_order_relaxed), ...); // [seam-store]
    };
    in_order(std::make_index_sequence<n>());
  }
  /// True while an observer watches the seam. A caller may then make its stores one by one, and
  /// otherwise in a loop of store_unobserved().
  [[nodiscard]] bool observed() const noexcept { return observer_ != nullptr; }
  /// As store(), for a caller that has found observed() false. It saves a branch for each word.
  void store_unobserved(std::uint64_t* word, std::uint64_t value) noexcept {
    std::atomic_ref(*word).store(value, std::memory_order_relaxed); // [seam-store]
  }

  /// Stores a commit word with release order: it makes valid what was stored before it.
  void store_release(std::uint64_t* word, std::uint64_t value, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_store(word, value, s);
    // [seam-commit] Without it a thread could see the commit word and not what it makes valid.
    std::atomic_ref(*word).store(value, std::memory_order_release);
  }

  /// Exchanges a whole commit word with acquire and release order. A success counts as a
  /// store_release(). On failure `expected` receives the value found.
  bool compare_exchange(std::uint64_t* word, std::uint64_t& expected, std::uint64_t value,
                        site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      return observer_->on_exchange(word, expected, value, s);
    // [seam-commit] [seam-commit-read]
    return std::atomic_ref(*word).compare_exchange_strong(
        expected, value, std::memory_order_acq_rel, std::memory_order_acquire);
  }

  /// Copies `n` bytes to the region, in no order at all until they are drained. Never use it for a
  /// line that holds a commit word.
  void write(void* to, const void* from, std::size_t n, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_write(to, from, n, s);
    std::memcpy(to, from, n);
  }

  /// As write(), and returns the CRC-32C of the bytes, continued from `crc` (base/crc32c.h), in the
  /// same pass.
  [[nodiscard]] std::uint32_t write_summed(void* to, const void* from, std::size_t n,
                                           std::uint32_t crc, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_write(to, from, n, s);
    return copy_crc32c(crc, to, from, n);
  }

  /// Starts to write back the lines of [from, from + n). They are durable after this thread's next
  /// drain(). Bytes that a device or an rte_ring put there become durable this way too, like bytes
  /// of a write().
  void flush(const void* from, std::size_t n, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      if (!observer_->on_flush(from, n, s)) return;
    if (kind_ == kind::instructions)
      instruction_flush(from, n);
    else if (kind_ == kind::driver)
      driver_flush(from, n);
  }

  /// Orders everything this thread flushed before everything it stores afterwards. When drain()
  /// returns, the flushed lines are durable in every class but `file`; there they are *ordered*,
  /// and durable once durable(mark()) is true.
  void drain(site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      if (!observer_->on_drain(s)) return;
    if (kind_ == kind::instructions)
      instruction_drain();
    else if (kind_ == kind::driver)
      driver_drain();
    else
      // [visible-drain] Without it another thread could see a later store and miss an earlier one.
      std::atomic_thread_fence(std::memory_order_seq_cst);
  }

  /// Makes durable, after an open, what this process has read from [from, from + n). After the
  /// death of a process a visible byte need not be durable, and recovery must not act on a byte
  /// that a later power cut takes back. Flushes as flush() does; does nothing in class `file`,
  /// whose working copy holds only what the journal holds.
  void flush_read(const void* from, std::size_t n, site s = site::current()) noexcept {
    if (class_ != durability_class::file) flush(from, n, s);
  }

  // --- marks ------------------------------------------------------------------------------------

  /// Returns the end of the durable order as this thread sees it. A packet that leaves the machine
  /// because of anything this thread drained, or read from other threads, must wait until
  /// durable(mark()).
  [[nodiscard]] virtual mark_t mark() noexcept { return 0; }
  /// True once everything before the mark survives what the class survives. After a failed write it
  /// never becomes true for a new mark.
  [[nodiscard]] virtual bool durable(mark_t) noexcept { return true; }
  /// Waits until durable(mark). Returns false if the region has failed, so that the mark will never
  /// be durable.
  [[nodiscard]] virtual bool wait(mark_t mark) noexcept;
  /// True after a write or a sync failed, or required memory was lost. Nothing more becomes durable
  /// until the region is opened again.
  [[nodiscard]] virtual bool failed() const noexcept { return false; }
  /// Says why the region failed, in a sentence that names the file. Returns no error while it has
  /// not failed.
  [[nodiscard]] virtual result<void> status() const { return {}; }
  /// Offset of the first access that found required memory of a mapped file gone, because it is
  /// poisoned or was cut off by a truncation. The memory reads as zeros from then on and the region
  /// has failed. UINT64_MAX if there was no such access.
  [[nodiscard]] virtual std::uint64_t lost_at() const noexcept { return UINT64_MAX; }
  /// False while there is no room for another burst. A broker stops polling its ports meanwhile.
  [[nodiscard]] virtual bool has_room() const noexcept { return true; }

  /// Most bytes, counted in whole lines, that one drain() may cover. Class `file` writes each drain
  /// as one journal record and aborts if it exceeds this. Use persist_range() to make whole tables
  /// durable in pieces.
  [[nodiscard]] virtual std::uint64_t drain_bytes_max() const noexcept { return UINT64_MAX; }

  /// Makes the region `size` bytes long. It never becomes shorter, and never longer than was
  /// reserved at the open. The new bytes read as zero. The file is grown, allocated and synced
  /// before grow() returns.
  [[nodiscard]] virtual result<void> grow(std::uint64_t size) = 0;
  /// Makes everything drained so far durable in its final place, then unlocks and unmaps the file.
  [[nodiscard]] virtual result<void> close() = 0;

  /// Puts an observer on the seam, or removes it with nullptr. Call while no other thread uses the
  /// media.
  virtual void observe(persist_observer* observer) noexcept { observer_ = observer; }

  // --- memory that may be lost ------------------------------------------------------------------
  //
  // The loss of a page fails the medium, unless the owner of the page tolerates the loss. An owner
  // that tolerates it checks whatever it reads from there. It takes nothing that it wrote there for
  // durable without asking lost() behind its drain. Where it checks bytes in place and not in a
  // copy, it compares losses() from before and after. None of this is stored on media: after a
  // crash or a close, an open finds lost pages anew, and nothing is tolerated or required until the
  // owner says so again.

  /// Says that pages wholly inside [from, from + n) may be lost, except those that are required.
  /// Such a page reads as zeros once it is lost, keeps nothing, and the medium does not fail. A
  /// medium has one such range; a call with the same beginning makes it longer.
  virtual void tolerate_loss(const void* /*from*/, std::uint64_t /*n*/) noexcept {}
  /// Requires [from, from + n) until unrequire() of the same bytes: from now on the loss of one of
  /// these pages fails the medium. Requirements are counted for each page. Returns false and
  /// changes nothing if a page is lost already. It reads every page, so that a loss is found while
  /// nothing lies there. Any thread may call it.
  [[nodiscard]] virtual bool require(const void* /*from*/, std::uint64_t /*n*/) noexcept {
    return true;
  }
  virtual void unrequire(const void* /*from*/, std::uint64_t /*n*/) noexcept {}
  /// A counter that changes whenever a tolerated page is found lost, before anything reads as zero
  /// because of it.
  [[nodiscard]] std::uint64_t losses() const noexcept {
    // [losses-read] Without it a thread could read the zeros of a lost page and miss the loss.
    return losses_.load(std::memory_order_acquire);
  }
  /// True if losses() differs from `before`, asked behind everything that this thread has read so
  /// far. If it returns false, what was checked since `before` and what was copied afterwards are
  /// the same.
  [[nodiscard]] bool lost_since(std::uint64_t before) const noexcept {
    // [losses-read-behind] Without it a thread could miss a loss that its last reads have met.
    std::atomic_thread_fence(std::memory_order_acquire);
    return losses() != before;
  }
  /// True if a tolerated page that [from, from + n) touches is lost. It reads every page.
  [[nodiscard]] virtual bool lost(const void* /*from*/, std::uint64_t /*n*/) noexcept {
    return false;
  }
  /// lost_pages() counts the tolerated pages that are lost. lost_page(n) is the offset of the
  /// access that found the n-th of them; UINT64_MAX if there is none, or if it was not noted: only
  /// the first few are.
  [[nodiscard]] virtual std::uint64_t lost_pages() const noexcept { return 0; }
  [[nodiscard]] virtual std::uint64_t lost_page(std::uint64_t /*n*/) const noexcept {
    return UINT64_MAX;
  }

  // --- scratch ----------------------------------------------------------------------------------

  /// Declares that the lines of [from, from + n) hold nothing durable (rte_ring, mempool and mbuf
  /// headers, receive buffers), so recovery never reads them. Pass whole lines, before the first
  /// store to them, and again after every open. It costs nothing in production. The driver `sim`
  /// fills such lines with noise at each crash and reports a flush of one as a defect. For the
  /// control path.
  virtual void declare_scratch(const void* /*from*/, std::size_t /*n*/) noexcept {}
  /// Takes declare_scratch() back before the lines are used for durable bytes. After a crash they
  /// hold noise until they are written and drained. For the control path.
  virtual void retract_scratch(const void* /*from*/, std::size_t /*n*/) noexcept {}

 protected:
  enum class kind : std::uint8_t {
    visible,      ///< what is visible is all there is: a flush does nothing, a drain is a fence
    instructions, ///< libpmem's cache-line write-back and fence
    driver,       ///< the driver's own driver_flush() and driver_drain()
  };
  media() = default;
  virtual void driver_flush(const void*, std::size_t) noexcept {}
  virtual void driver_drain() noexcept {}
  /// Sets the observer, for a driver whose observe() puts an observer of its own in front.
  void set_observer(persist_observer* observer) noexcept { observer_ = observer; }

  std::byte* base_ = nullptr;
  std::atomic<std::uint64_t> size_ = 0;
  std::atomic<std::uint64_t> losses_ = 0; ///< counted up by a memory_watch
  std::string path_;
  durability_class class_ = durability_class::process;
  kind kind_ = kind::visible;

 private:
  static void instruction_flush(const void* from, std::size_t n) noexcept;
  void observed_run(std::uint64_t* words, const std::uint64_t* values, std::size_t n,
                    const site& s) noexcept;
  static void instruction_drain() noexcept;

  persist_observer* observer_ = nullptr;
};

/// Flushes and drains [from, from + n), in pieces if one drain cannot cover it. For whole tables
/// and cleared memory that nothing durable names yet: no class makes the range durable as one.
/// Reports name the caller's site.
void persist_range(media& m, const void* from, std::uint64_t n, site s = site::current()) noexcept;

/// How a media is opened or created.
struct media_options {
  std::string path;
  /// The class to insist on; without one, the region gets the class of its place.
  std::optional<durability_class> durability;
  /// Name of a driver. If it is empty, the class asked for or else the path decides.
  std::string driver;
  /// Bytes of the region to create. When opening, 0 accepts any size.
  std::uint64_t size = 0;
  /// Address space to reserve for growth, in bytes; 0 stands for four times the size.
  std::uint64_t size_max = 0;
  /// Size of the redo journal of class `file` when creating, in bytes; 0 stands for that of the
  /// region, from 1 to 64 MiB.
  std::uint64_t journal_size = 0;
  /// The CPU on which the threads of class `file` run, which commit and checkpoint its journal; -1
  /// stands for every CPU on which the process was started. Choose one on which no lcore polls. It
  /// changes nothing about what is durable.
  int journal_cpu = -1;
  /// Opens for inspection: nothing is written, and other readers may have the region open too.
  bool read_only = false;
  /// With read_only: opens beside whoever has the region open, without a lock, so that what is
  /// read may change at any moment (region::attach()). In class `file` the medium is a copy of what
  /// the file holds; where the file changes faster than it can be copied, the error is errc::busy.
  /// A driver that does not know this opens as read_only says.
  bool beside_owner = false;
};

/// A back end. Each driver is one constant object, initialised before any code runs.
struct media_driver {
  const char* name;
  const char* summary; ///< one line for --help
  /// The classes that the driver can give. For each class one driver is built in.
  std::span<const durability_class> classes;
  /// True if this driver is the natural one for the path, which need not exist yet.
  bool (*suits)(const std::string& path);
  result<std::unique_ptr<media>> (*create)(const media_options&);
  result<std::unique_ptr<media>> (*open)(const media_options&);
};

/// All drivers in the order in which they are asked: first those added, then those built in.
[[nodiscard]] std::vector<const media_driver*> media_drivers();
/// Adds a back end of the program. It must outlive every use, and its name must be new. Any thread
/// may call this, before a region is opened with the driver.
void add_media_driver(const media_driver& driver);

/// Creates the region at options.path, refusing to overwrite, or opens it. The driver is the one
/// named in options, or the first that suits. A region that is open elsewhere gives errc::busy.
[[nodiscard]] result<std::unique_ptr<media>> create_media(const media_options& options);
[[nodiscard]] result<std::unique_ptr<media>> open_media(const media_options& options);

/// Makes a media of `size` bytes of ordinary zeroed memory without a file, in class `process` or
/// `emulated`, for tests, benchmarks and volatile use of the structures.
[[nodiscard]] std::unique_ptr<media> memory_media(std::uint64_t size, durability_class c);

} // namespace chainring
