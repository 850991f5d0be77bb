// SPDX-License-Identifier: BSD-3-Clause
/// Media: where durable bytes live, and the persist seam, the only way they are written.
///
/// A `media` is one mapped region of memory with a way to make its bytes durable. Drivers (dax,
/// file, hugetlb, sim) create them. Everything above stores durable bytes through the six calls of
/// the persist seam and nothing else.
///
/// **What a crash leaves** (every protocol here relies on this and on no more):
/// within a cache line, store()s persist in program order, so a crash leaves some prefix of those
/// not drained yet; lines are independent of each other; the 8-byte words of a write() are any
/// subset until the thread that wrote them drains; a drain covers only its own thread's flushes;
/// eight aligned bytes never tear. Process death keeps every store that was visible, and those not
/// drained may still be lost in a later power cut.
///
/// **Order in a burst:** all stores and locked instructions first, then all flushes, then the
/// drain. A locked instruction behind a flush waits for it.
///
/// Thread-safety: the seam may be called from any thread; two threads never write one word other
/// than through compare_exchange().
///
/// Edges. Their partners are the protocols' own labels, in the files that call the seam:
///   [M1] the size's load, relaxed: what orders growth is the call that asked for it
///   [M4] store(), relaxed: made visible by the next [M5], made durable by flush and drain
///   [M5] a commit word stored with release, by store_release() or compare_exchange(): whoever
///        acquires it sees what this thread stored before, and [M6] is such a one
///   [M6] a commit word acquired by compare_exchange()
///   [M7] drain() where there is nothing to write back: a fence, so that what was stored before it
///        is visible before anything stored after it, as the other kinds' drains have it
///   [M8] losses() acquired: whoever has met the zeros of a lost page finds it changed, and the
///        page lost; pairs with [N5] in memory_fault.cc
///   [M9] the same behind reads, which the fence keeps before it
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
#include <vector>

#include "../base/cacheline.h"
#include "../base/error.h"
#include "../base/site.h"

namespace chainring {

/// What a region survives. The class follows from where the region lies and the driver that suits
/// it; asking for one (media_options::durability) chooses the driver that gives it, which refuses a
/// place that cannot have it.
enum class durability_class : std::uint8_t {
  power = 1,    ///< power loss: devdax, or fsdax mapped with MAP_SYNC
  file = 2,     ///< power loss: a regular file behind a redo journal
  process = 3,  ///< process death, not power loss: hugetlbfs, tmpfs
  emulated = 4, ///< the instructions of `power` on ordinary memory, for tests and benchmarks
};

[[nodiscard]] const char* to_string(durability_class c) noexcept;
[[nodiscard]] result<durability_class> parse_durability_class(std::string_view text);

/// What an option that asks for a class may say, for help texts and checks of arguments.
inline constexpr std::array<const char*, 5> durability_choices = {"auto", "power", "file",
                                                                  "process", "emulated"};
/// One of durability_choices; nothing for "auto", which leaves the class to the place.
[[nodiscard]] result<std::optional<durability_class>>
parse_durability_choice(std::string_view text);

/// A point in the durable order. Marks of one media compare with <.
using mark_t = std::uint64_t;

/// Sees every call of the seam, for the simulator, the fault and the mutation runs. Called on the
/// calling thread, before the effect. A false return of a flush or drain suppresses that call.
class persist_observer {
 public:
  virtual ~persist_observer() = default;
  virtual void on_store(const std::uint64_t* word, std::uint64_t value, const site& s) noexcept = 0;
  virtual void on_write(const void* to, const void* from, std::size_t n,
                        const site& s) noexcept = 0;
  virtual bool on_flush(const void* from, std::size_t n, const site& s) noexcept = 0;
  virtual bool on_drain(const site& s) noexcept = 0;
  /// Does a compare_exchange(), so that an observer can see the exchange and its record as one
  /// step. As it stands, right while threads run one at a time: on_store() when it will succeed,
  /// then the exchange.
  virtual bool on_exchange(std::uint64_t* word, std::uint64_t& expected, std::uint64_t value,
                           const site& s) noexcept;
};

/// One mapped region of durable memory.
class media {
 public:
  media(const media&) = delete;
  media& operator=(const media&) = delete;
  virtual ~media() = default;

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  /// Bytes that may be used now.
  [[nodiscard]] std::uint64_t size() const noexcept {
    // [M1] relaxed: a thread learns of growth from whoever asked for it, and that is what orders
    // it.
    return size_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] durability_class durability() const noexcept { return class_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] virtual const char* driver_name() const noexcept = 0;

  // --- the persist seam -------------------------------------------------------------------------

  /// Stores one aligned word, temporally, in program order with other store()s of this thread.
  void store(std::uint64_t* word, std::uint64_t value, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_store(word, value, s);
    std::atomic_ref(*word).store(value, std::memory_order_relaxed); // [M4]
  }

  /// store() with release order: a commit word, which makes valid what was stored before it.
  void store_release(std::uint64_t* word, std::uint64_t value, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_store(word, value, s);
    std::atomic_ref(*word).store(value, std::memory_order_release); // [M5] pairs with [M6]
  }

  /// Swaps a whole commit word, acq_rel. Counts as store_release() where it succeeds. On failure
  /// `expected` holds what was found.
  bool compare_exchange(std::uint64_t* word, std::uint64_t& expected, std::uint64_t value,
                        site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      return observer_->on_exchange(word, expected, value, s);
    return std::atomic_ref(*word).compare_exchange_strong( // [M5], [M6]
        expected, value, std::memory_order_acq_rel, std::memory_order_acquire);
  }

  /// Copies `n` bytes to the region, in no order at all until drained. Never into a line that holds
  /// a commit word.
  void write(void* to, const void* from, std::size_t n, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      observer_->on_write(to, from, n, s);
    std::memcpy(to, from, n);
  }

  /// Starts the lines of [from, from + n) on their way; they are durable after this thread's next
  /// drain(). Also how bytes a device or rte_ring put there become durable (as a write()).
  void flush(const void* from, std::size_t n, site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      if (!observer_->on_flush(from, n, s)) return;
    if (kind_ == kind::instructions)
      instruction_flush(from, n);
    else if (kind_ == kind::driver)
      driver_flush(from, n);
  }

  /// Orders everything this thread flushed before everything it stores after. Durable when this
  /// returns in every class but `file`, where it is *ordered* and durable once durable(mark()).
  void drain(site s = site::current()) noexcept {
    if (observer_ != nullptr) [[unlikely]]
      if (!observer_->on_drain(s)) return;
    if (kind_ == kind::instructions)
      instruction_drain();
    else if (kind_ == kind::driver)
      driver_drain();
    else
      std::atomic_thread_fence(std::memory_order_seq_cst); // [M7]
  }

  /// After an open, makes durable what this process has read from [from, from + n): after process
  /// death, a byte that is visible need not be durable, and recovery must not act on one that a
  /// later power cut takes back. Flushes like flush(); nothing in class `file`, where the working
  /// copy holds only what the journal holds.
  void flush_read(const void* from, std::size_t n, site s = site::current()) noexcept {
    if (class_ != durability_class::file) flush(from, n, s);
  }

  // --- marks ------------------------------------------------------------------------------------

  /// The end of the durable order as seen now. What leaves the machine because of anything this
  /// thread drained, or read of others, waits until durable(mark()).
  [[nodiscard]] virtual mark_t mark() noexcept { return 0; }
  /// True once everything before the mark survives what the class survives. Never true again for
  /// new marks after a write failed.
  [[nodiscard]] virtual bool durable(mark_t) noexcept { return true; }
  /// Waits until durable(mark). False: the region has failed, and it never will be.
  [[nodiscard]] virtual bool wait(mark_t mark) noexcept;
  /// True after a write or sync failed, or memory was lost: nothing more becomes durable until the
  /// region is reopened.
  [[nodiscard]] virtual bool failed() const noexcept { return false; }
  /// Why it failed, in a sentence that names the file; no error while it has not.
  [[nodiscard]] virtual result<void> status() const { return {}; }
  /// Offset of the first access that found memory of a mapped file gone, which the region cannot do
  /// without: poisoned, or cut off by a truncation. It reads as zeros since, and the region has
  /// failed. UINT64_MAX: none.
  [[nodiscard]] virtual std::uint64_t lost_at() const noexcept { return UINT64_MAX; }
  /// False while there is no room for another burst; a broker then stops polling its ports.
  [[nodiscard]] virtual bool has_room() const noexcept { return true; }

  /// Most bytes, counted in whole lines, that one drain() may cover. Class `file` writes a drain as
  /// one journal record and aborts past this; whoever persists whole tables does it in pieces,
  /// which is what persist_range() is for.
  [[nodiscard]] virtual std::uint64_t drain_bytes_max() const noexcept { return UINT64_MAX; }

  /// Makes the region `size` bytes long (never shorter, never past what was reserved at open). The
  /// new bytes read as zero. The file is grown, allocated and synced before this returns.
  [[nodiscard]] virtual result<void> grow(std::uint64_t size) = 0;
  /// Everything drained so far durable and in its final place; the file unlocked and unmapped.
  [[nodiscard]] virtual result<void> close() = 0;

  /// Puts an observer on the seam (nullptr: off). Call while no other thread uses the media.
  virtual void observe(persist_observer* observer) noexcept { observer_ = observer; }

  // --- memory that may be lost ------------------------------------------------------------------
  //
  // A page that is gone fails the medium, unless its owner can do without what lay there: it checks
  // whatever it reads from there, takes nothing for durable that it wrote there without asking
  // lost() behind its drain, and looks at losses() before and behind where a check is not on a
  // copy. Nothing of this is on media: after a crash, and after a close, an open finds what is gone
  // anew, and nothing is tolerated or required until it is said again.

  /// Pages wholly inside [from, from + n) may be lost, but those that are required: such a page
  /// reads as zeros from then on, keeps nothing, and the medium does not fail. One range a medium;
  /// again with the same beginning to make it longer.
  virtual void tolerate_loss(const void* /*from*/, std::uint64_t /*n*/) noexcept {}
  /// [from, from + n) is not to be lost, until unrequire() of the same bytes: requirements are
  /// counted by page. False: some of it is lost already, and nothing changed. Looks at every page,
  /// so that what is gone is found while nothing lies there. Any thread.
  [[nodiscard]] virtual bool require(const void* /*from*/, std::uint64_t /*n*/) noexcept {
    return true;
  }
  virtual void unrequire(const void* /*from*/, std::uint64_t /*n*/) noexcept {}
  /// Changes whenever a tolerated page is found lost, before anything reads as zero because of it.
  [[nodiscard]] std::uint64_t losses() const noexcept {
    return losses_.load(std::memory_order_acquire); // [M8] pairs with [N5]
  }
  /// Whether it is another than `before`, asked behind everything that this thread has read so far:
  /// if not, what was checked since and copied then is one and the same.
  [[nodiscard]] bool lost_since(std::uint64_t before) const noexcept {
    std::atomic_thread_fence(std::memory_order_acquire); // [M9] pairs with [N5]
    return losses() != before;
  }
  /// Whether a tolerated page that [from, from + n) touches is lost. Looks at every page.
  [[nodiscard]] virtual bool lost(const void* /*from*/, std::uint64_t /*n*/) noexcept {
    return false;
  }
  /// Tolerated pages that are lost, and where the n-th of them was found to be (offset of the
  /// access; UINT64_MAX: there is none, or it was not noted, as with all behind the first few).
  [[nodiscard]] virtual std::uint64_t lost_pages() const noexcept { return 0; }
  [[nodiscard]] virtual std::uint64_t lost_page(std::uint64_t /*n*/) const noexcept {
    return UINT64_MAX;
  }

  // --- scratch ----------------------------------------------------------------------------------

  /// Says that the lines of [from, from + n) hold nothing durable (rte_ring, mempool and mbuf
  /// headers, receive buffers): recovery never reads them. Whole lines; before the first store to
  /// them; again after every open. Free in production; `sim` fills them with noise at each crash
  /// and takes a flush of one as a defect. Control path.
  virtual void declare_scratch(const void* /*from*/, std::size_t /*n*/) noexcept {}
  /// Takes declare_scratch() back, before the lines are used for durable bytes: what they hold then
  /// is noise after a crash until it is written and drained. Control path.
  virtual void retract_scratch(const void* /*from*/, std::size_t /*n*/) noexcept {}

 protected:
  enum class kind : std::uint8_t {
    visible,      ///< visible is all there is: nothing to flush, a fence to drain
    instructions, ///< cache-line write-back and a fence, by libpmem
    driver,       ///< driver_flush() and driver_drain()
  };
  media() = default;
  virtual void driver_flush(const void*, std::size_t) noexcept {}
  virtual void driver_drain() noexcept {}
  /// What observe() sets, for a driver that puts an observer of its own in front.
  void set_observer(persist_observer* observer) noexcept { observer_ = observer; }

  std::byte* base_ = nullptr;
  std::atomic<std::uint64_t> size_ = 0;
  std::atomic<std::uint64_t> losses_ = 0; ///< counted up by a memory_watch
  std::string path_;
  durability_class class_ = durability_class::process;
  kind kind_ = kind::visible;

 private:
  static void instruction_flush(const void* from, std::size_t n) noexcept;
  static void instruction_drain() noexcept;

  persist_observer* observer_ = nullptr;
};

/// Flushes and drains [from, from + n), in pieces where one drain cannot cover it: for whole tables
/// and cleared memory that nothing durable names yet. Not atomic in any class. The site is the
/// caller's.
void persist_range(media& m, const void* from, std::uint64_t n, site s = site::current()) noexcept;

/// How a media is opened or created.
struct media_options {
  std::string path;
  /// The class to insist on; nothing: the one that the place has by nature.
  std::optional<durability_class> durability;
  /// Driver by name; empty: the one that gives the class asked for, or the one that suits the path.
  std::string driver;
  /// Bytes of the region to create; 0 when opening: as long as it is.
  std::uint64_t size = 0;
  /// Address space to reserve for growth, bytes; 0: four times the size.
  std::uint64_t size_max = 0;
  /// Redo journal of class `file`, bytes; 0: the driver's default. Only when creating.
  std::uint64_t journal_size = 0;
  /// For inspection: nothing is written, and other readers may have it open too.
  bool read_only = false;
};

/// A back end. One constant object a driver, initialised before any code runs.
struct media_driver {
  const char* name;
  const char* summary; ///< one line for --help
  /// The classes it can give. Each class has one driver built in.
  std::span<const durability_class> classes;
  /// True where this driver is the natural one for the path (which need not exist yet).
  bool (*suits)(const std::string& path);
  result<std::unique_ptr<media>> (*create)(const media_options&);
  result<std::unique_ptr<media>> (*open)(const media_options&);
};

/// Every driver there is, in the order they are asked: those added, then those built in.
[[nodiscard]] std::vector<const media_driver*> media_drivers();
/// Adds a back end of the program's own, which must outlive every use of it. Its name must be new.
/// Any thread, before a region is opened with it.
void add_media_driver(const media_driver& driver);

/// Creates (refusing to overwrite) or opens the region at options.path with the driver named, or
/// with the first one that suits. A region open elsewhere gives errc::busy.
[[nodiscard]] result<std::unique_ptr<media>> create_media(const media_options& options);
[[nodiscard]] result<std::unique_ptr<media>> open_media(const media_options& options);

/// Ordinary zeroed memory of `size` bytes with no file behind it, in class `process` or `emulated`:
/// for tests, benchmarks and volatile use of the structures.
[[nodiscard]] std::unique_ptr<media> memory_media(std::uint64_t size, durability_class c);

} // namespace chainring
