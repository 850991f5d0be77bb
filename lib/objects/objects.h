// SPDX-License-Identifier: BSD-3-Clause
/// Named objects: one call makes a region with typed maps and queues in it, or opens it and
/// recovers them.
///
/// **When to use:** a program that keeps some durable structures and wants nothing to do with
/// areas, block stores and the order of a recovery. **When not:** structures of several threads'
/// bursts that share their drains, as in the broker: these take region.h, recovery.h and the
/// components.
///
/// An object has a name, a type and, at first, room for a number of entries. The type is kept on
/// media, so an object that is opened as another type is refused. Objects that a region does not
/// have yet are added to it. Objects that the region has and the program does not name stay as they
/// are.
///
/// **Durability:** when open_or_create() returns without an error, every object is there durably,
/// and holds what the calls of earlier processes made durable. After a crash during the call, the
/// next one goes on with it; only a crash while the region itself is made may leave a file without
/// a region, which is refused until it is removed. Everything else is the objects' own: map.h and
/// queue.h say when a change is durable.
/// **Thread-safety:** all calls but get() come from one thread. During open_or_create() and close()
/// no other thread uses the region; during grow() others may use the objects. Any thread may call
/// get(). The objects have rules of their own.
/// **Errors:** sentences that name the region, the object and the remedy. Damaged entries are left
/// out and named in recovered(); all others are served.
/// **Complexity:** an open takes O(room of the objects). **Memory:** that of the objects.
///
///     using stock = chainring::map<std::string, std::uint64_t>;
///     auto opened = chainring::objects::open_or_create("/var/tmp/stock",
///                                                      chainring::durable<stock>{"parts", 1000});
///     if (!opened) ...                                       // opened.error().message
///     stock parts = (*opened)->get<stock>("parts").value();
///     parts.increment("bolt", 20);                           // durable, and there after a crash
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../base/error.h"
#include "../block/block_store.h"
#include "../media/recovery_part.h"
#include "../region/region.h"

namespace chainring {

class message_table;
class recovery;

/// What the objects of a region have in common. Programs meet it only if they add a type of object:
/// object_map.h shows how.
class named_object {
 public:
  virtual ~named_object();
  named_object(const named_object&) = delete;
  named_object& operator=(const named_object&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// The type in words, such as "map of string to 8 bytes". Objects are of one type if these words
  /// are the same.
  [[nodiscard]] const std::string& type() const noexcept { return type_; }
  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  /// The entries for which there is to be room where the object is made.
  [[nodiscard]] std::uint64_t entries() const noexcept { return entries_; }
  /// The bytes of a range with room for `entries`, without its header, and the blocks of that size
  /// that its content may take.
  [[nodiscard]] virtual std::uint64_t range_bytes(std::uint64_t entries) const noexcept = 0;
  [[nodiscard]] virtual std::uint64_t content_blocks(std::uint64_t entries,
                                                     std::uint32_t block_size) const noexcept = 0;
  /// Says what is wrong with what the program asks for, before anything is made.
  [[nodiscard]] virtual result<void> acceptable() const = 0;
  /// The table of messages in which its entries lie, once it is open. Null: it has none.
  [[nodiscard]] virtual message_table* messages() noexcept { return nullptr; }

  /// Stores what the object's last calls have left for later. Called by objects::close().
  virtual void settle() noexcept {}

 protected:
  /// A range of the region without its header: the first, or one that was added.
  struct range {
    std::uint64_t offset, bytes;
  };
  named_object(std::string name, std::string type, std::uint64_t entries, std::uint32_t version)
      : name_(std::move(name)), type_(std::move(type)), entries_(entries), version_(version) {}

 private:
  friend class objects;
  /// Makes the object over its ranges. Where they are not `fresh`, the parts of parts() recover it
  /// before it is used.
  [[nodiscard]] virtual result<void> make(media& medium, block_store& blocks,
                                          std::span<const range> ranges, bool fresh) = 0;
  [[nodiscard]] virtual std::vector<recovery_part> parts() = 0;
  /// Takes one more range, which is zero, durably, and named.
  [[nodiscard]] virtual result<void> add(const range& more) = 0;
  /// The entries for which there is room, and the most to which add() can bring it. No range is
  /// added beyond that.
  [[nodiscard]] virtual std::uint64_t room() const noexcept = 0;
  /// The entries for which an open adds room.
  [[nodiscard]] virtual std::uint64_t missing() const noexcept {
    return entries_ - std::min(entries_, room());
  }
  [[nodiscard]] virtual std::uint64_t room_max() const noexcept = 0;
  /// Objects whose records have checks of their own recover first, and mark their blocks. Those
  /// whose contents are judged by other means come behind them.
  [[nodiscard]] virtual bool recovers_late() const noexcept { return false; }
  /// False: add() is called only while the region is opened.
  [[nodiscard]] virtual bool grows_in_use() const noexcept = 0;

  std::string name_, type_;
  std::uint64_t entries_;
  std::uint32_t version_;
};

/// An object that a program wants. `T` is a type of object: map<K, V> of object_map.h, or queue<T>
/// of object_queue.h. An object that has less room than the program asks for is given the rest.
template <class T> struct durable {
  std::string name;          ///< 1 to 24 characters, none of them #
  std::uint64_t entries;     ///< for which there is room at first, at least 1
  std::uint32_t version = 1; ///< of the content: one that the region has in another is refused
};

namespace detail {
/// "8 bytes"; "string" for 0.
[[nodiscard]] std::string bytes_in_words(std::size_t bytes);
/// Makes an object of the words of its type; null where there is no such type.
[[nodiscard]] std::unique_ptr<named_object>
object_in_words(const std::string& name, std::string_view type, std::uint32_t version);
} // namespace detail

/// How an object of type T is made and used: `static std::unique_ptr<named_object> make(const
/// durable<T>&)`, `static std::string type()`, `static bool is(std::string_view type)` and `static
/// T view(named_object&)`.
template <class T> struct object_of;

class objects {
 public:
  using wanted = std::vector<std::unique_ptr<named_object>>;

  /// Opens the region of that path, or makes it with the size that the objects need. Calls with
  /// options can ask for more: a size of 0 there means the same, and a size_max of 0 lets the
  /// region grow to sixteen times its size, and at least to 256 MiB.
  template <class... Ts>
  [[nodiscard]] static result<std::unique_ptr<objects>> open_or_create(const std::string& path,
                                                                       const durable<Ts>&... of) {
    region_options o;
    o.media.path = path;
    return open_or_create(std::move(o), of...);
  }
  template <class... Ts>
  [[nodiscard]] static result<std::unique_ptr<objects>> open_or_create(region_options options,
                                                                       const durable<Ts>&... of) {
    return open_or_create(std::move(options), list(of...));
  }
  [[nodiscard]] static result<std::unique_ptr<objects>> open_or_create(region_options options,
                                                                       wanted of);
  /// The same in a region that is open.
  template <class... Ts>
  [[nodiscard]] static result<std::unique_ptr<objects>> open(std::unique_ptr<class region> in,
                                                             const durable<Ts>&... of) {
    return open(std::move(in), list(of...));
  }
  [[nodiscard]] static result<std::unique_ptr<objects>> open(std::unique_ptr<class region> in,
                                                             wanted of);
  /// The bytes of a region that holds these objects and nothing else.
  template <class... Ts> [[nodiscard]] static std::uint64_t size_for(const durable<Ts>&... of) {
    return size_for(list(of...), region_options{}.block_size);
  }
  /// Without close() the destruction has the effect of a crash.
  ~objects();
  objects(const objects&) = delete;
  objects& operator=(const objects&) = delete;

  /// Returns the object of that name, which is used as long as this one is open. Errors: not_found,
  /// invalid_argument where its type is another.
  template <class T> [[nodiscard]] result<T> get(std::string_view name) const {
    auto found = find(name, object_of<T>::is, object_of<T>::type());
    if (!found) return found.error();
    return object_of<T>::view(**found);
  }

  /// Adds room for `entries` more entries to the object of that name, at least as many as it has,
  /// because an object has at most `ranges_max` ranges. Where the region has no room for that, it
  /// grows. Errors: not_found, no_space, unsupported, invalid_argument. After an error nothing has
  /// changed, except that the region may be larger.
  [[nodiscard]] result<void> grow(std::string_view name, std::uint64_t entries);

  static constexpr std::size_t ranges_max = 16;

  /// Examines all objects of a region, also one that is open for reading only, and changes nothing.
  /// The report has what an open would find. The program that made them is not needed: the region
  /// says what they are. A type that this build does not know is a note.
  [[nodiscard]] static recovery_report check(class region& in);

  /// What the recovery of the open found. Empty where the region was made.
  [[nodiscard]] const recovery_report& recovered() const noexcept { return recovered_; }
  [[nodiscard]] class region& region() noexcept { return *region_; }
  [[nodiscard]] block_store& blocks() noexcept {
    CHAINRING_EXPECTS(blocks_ != nullptr, "the objects are closed; call open_or_create() again");
    return *blocks_;
  }
  /// The tables of messages of those objects that have one, for a message_compactor. They live as
  /// long as the objects.
  [[nodiscard]] std::vector<message_table*> message_tables() const;

  /// Makes everything durable and closes the region. What get() returned is not used any more.
  [[nodiscard]] result<void> close();

 private:
  objects();
  template <class... Ts> static wanted list(const durable<Ts>&... of) {
    wanted all;
    (all.push_back(object_of<Ts>::make(of)), ...);
    return all;
  }
  [[nodiscard]] static result<void> acceptable(const wanted& of);
  static std::uint64_t size_for(const wanted& of, std::uint32_t block_size);
  [[nodiscard]] result<named_object*> find(std::string_view name, bool (*is)(std::string_view),
                                           const std::string& type) const;
  [[nodiscard]] result<void> check_header(const named_object& o, const region_root& root) const;
  [[nodiscard]] static std::vector<named_object::range> ranges_of(class region& in,
                                                                  std::string_view name);
  static void add_ranges(chainring::recovery& all, class region& in, block_store& blocks);
  static void add_parts(chainring::recovery& all, const wanted& of, const std::vector<bool>& made);
  [[nodiscard]] result<void> open_those_there();
  [[nodiscard]] result<void> add_missing();
  [[nodiscard]] result<void> grow(named_object& o, std::uint64_t entries);
  [[nodiscard]] result<void> add_blocks(const named_object& o, std::uint64_t blocks);
  [[nodiscard]] result<region_root> add_range(const named_object& o, std::uint64_t bytes,
                                              bool with_header);
  [[nodiscard]] std::string names() const;

  std::unique_ptr<class region> region_;
  std::unique_ptr<block_store> blocks_;
  wanted objects_;
  std::vector<bool> made_; ///< by object
  recovery_report recovered_;
};

} // namespace chainring
