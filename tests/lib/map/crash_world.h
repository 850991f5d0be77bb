// SPDX-License-Identifier: BSD-3-Clause
/// What a crash scenario of the durable map is made of: the changes with the promises they record,
/// and the check of what recovery finds. There are few cells and blocks, so that each of them is
/// soon used again.
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "map_fixture.h"
#include "support/explorer.h"

namespace chainring::test {

/// The kinds of promises that a history records about keys.
enum kinds : int {
  seen = history::first_own_kind, ///< id: a lookup returned this change, so no older one comes back
  seen_absent,                    ///< key: a lookup found that the key is missing
  settled,                        ///< id: recovery found the key in this state
  settled_absent,                 ///< key: recovery found that the key is missing
};

constexpr unsigned keys = 5, first_long_key = 3, first_unwanted = 20;

/// With `first` 1 the index grows with the second, third and fifth key.
inline map_layout crash_layout(std::uint64_t first = 0) {
  map_layout l;
  l.cells = 6;
  l.blocks = 16;
  l.first = first;
  return l;
}

/// The id of one change of one key in the history. The history's value is the length of the new
/// value, or 0 for an erase.
constexpr std::uint64_t change_id(unsigned key, std::uint64_t sequence) {
  return std::uint64_t{key} << 32 | sequence;
}
constexpr unsigned key_of(std::uint64_t id) {
  return static_cast<unsigned>(id >> 32);
}

inline std::string key_text(unsigned key) {
  std::string text = "key " + std::to_string(key);
  if (key >= first_long_key && key < first_unwanted) text.resize(70 + key, '.');
  return text;
}

/// Makes a value of at least 8 bytes. The first 8 bytes hold id and length, and the others follow
/// from them.
inline std::string value_text(std::uint64_t id, std::uint64_t length) {
  std::string text(length, '\0');
  const std::uint64_t head = id << 16 | length;
  std::memcpy(text.data(), &head, sizeof head);
  for (std::size_t i = sizeof head; i < length; ++i)
    text[i] = static_cast<char>(id * 31 + i * 7 + 1);
  return text;
}
/// Returns the id in a value, or 0 where the value is not whole.
inline std::uint64_t id_of(const std::string& text) {
  std::uint64_t head = 0;
  if (text.size() < sizeof head) return 0;
  std::memcpy(&head, text.data(), sizeof head);
  const std::uint64_t id = head >> 16;
  return text == value_text(id, text.size()) && (head & 0xffff) == text.size() ? id : 0;
}

struct candidate {
  std::uint64_t id;
  std::uint64_t length; ///< 0: the key is missing
};

/// Returns the states in which each key may be found after a crash, oldest first.
inline std::map<unsigned, std::vector<candidate>> candidates_of(const history& h) {
  std::map<unsigned, std::vector<candidate>> all;
  for (unsigned k = 0; k < keys; ++k)
    all[k] = {{change_id(k, 0), 0}};
  const auto from = [](std::vector<candidate>& c, auto&& is) {
    const auto first = std::find_if(c.begin(), c.end(), is);
    c.erase(c.begin(), first == c.end() ? c.begin() : first);
  };
  for (const history::entry& e : h.entries()) {
    const bool by_key = e.kind == seen_absent || e.kind == settled_absent;
    auto& c = all[by_key ? static_cast<unsigned>(e.id) : key_of(e.id)];
    if (e.kind == history::begun_kind) {
      c.push_back({e.id, e.value});
      continue;
    }
    if (by_key)
      from(c, [](const candidate& x) { return x.length == 0; });
    else
      from(c, [&](const candidate& x) { return x.id == e.id; });
    if (e.kind == settled || e.kind == settled_absent) c.resize(1);
  }
  return all;
}

inline opened_map::filter wanted_only(bool filter) {
  if (!filter) return {};
  return [](std::span<const std::byte> key, std::span<const std::byte>) {
    const std::string_view text(reinterpret_cast<const char*>(key.data()), key.size());
    return text != key_text(first_unwanted) && text != key_text(first_unwanted + 1);
  };
}

/// A map that is changed, and whose keys are looked up after every step.
class map_world {
 public:
  map_world(media& medium, history& promises, bool filter = false,
            const map_layout& layout = crash_layout())
      : map_(medium, layout, wanted_only(filter)), m_(medium), h_(promises),
        sequence_(1000 * static_cast<std::uint64_t>(promises.crashes())) {
    if (!map_.recovered.notes.empty()) h_.fail("damage: " + map_.recovered.notes.front());
    for (const auto& [k, c] : candidates_of(h_))
      if (c.size() > 1) look(k, true);
    set_hook(
        [](const char* name, void* self) noexcept {
          if (std::strncmp(name, "map.", 4) != 0) return;
          auto& world = *static_cast<map_world*>(self);
          if (world.at_wait_ && std::strcmp(name, "map.claim.wait") == 0)
            return std::exchange(world.at_wait_, nullptr)();
          world.look();
          world.map_->trim(); // chains that were given up may be used again from here on
        },
        this);
  }
  ~map_world() { set_hook(nullptr, nullptr); }
  map_world(const map_world&) = delete;
  map_world& operator=(const map_world&) = delete;

  /// Makes a single change. It must return `done`, otherwise the scenario is wrong.
  template <class Fn> void alone(unsigned key, std::uint64_t length, Fn&& fn) {
    const std::uint64_t id = begin(key, length);
    if (fn(key_text(key), length == 0 ? "" : value_text(id, length)) != map_status::done)
      return h_.fail("the change of key " + std::to_string(key) + " was refused");
    h_.ack(id);
    look();
  }
  void insert(unsigned key, std::uint64_t length) {
    alone(key, length, [&](const std::string& k, const std::string& v) {
      return map_->insert(bytes_of(k), bytes_of(v));
    });
  }
  void update(unsigned key, std::uint64_t length) {
    alone(key, length, [&](const std::string& k, const std::string& v) {
      return map_->update(bytes_of(k), bytes_of(v));
    });
  }
  void upsert(unsigned key, std::uint64_t length) {
    alone(key, length, [&](const std::string& k, const std::string& v) {
      return map_->upsert(bytes_of(k), bytes_of(v));
    });
  }
  void erase(unsigned key) {
    alone(key, 0,
          [&](const std::string& k, const std::string&) { return map_->erase(bytes_of(k)); });
  }
  void compare_exchange(unsigned key, std::uint64_t length) {
    const std::string now = map_.text(key_text(key));
    alone(key, length, [&](const std::string& k, const std::string& v) {
      return map_->compare_exchange(bytes_of(k), bytes_of(now), bytes_of(v));
    });
  }
  /// Replaces a value by one of the same length.
  void update_in_place(unsigned key) {
    alone(key, map_.text(key_text(key)).size(), [&](const std::string& k, const std::string& v) {
      return map_->update_in_place(bytes_of(k), [&](std::span<std::byte> value) {
        std::memcpy(value.data(), v.data(), v.size());
      });
    });
  }
  /// Does what upsert() does, or erase() where the length is 0.
  void alter(unsigned key, std::uint64_t length) {
    alone(key, length, [&](const std::string& k, const std::string& v) {
      return map_->alter(bytes_of(k), [&](map_edit& e) {
        if (length == 0)
          e.erase();
        else
          e.assign(bytes_of(v));
        return map_status::done;
      });
    });
  }
  void erase_if(unsigned key) {
    alone(key, 0, [&](const std::string& k, const std::string&) {
      return map_->erase_if(bytes_of(k), [](auto value) { return !value.empty(); });
    });
  }
  /// The key to which a walk comes last.
  [[nodiscard]] unsigned last_of_walk() const {
    unsigned last = 0;
    map_->for_each([&](auto key, auto) {
      for (unsigned k = 0; k < keys; ++k)
        if (std::ranges::equal(key, bytes_of(key_text(k)))) last = k;
    });
    return last;
  }
  /// Keeps the keys whose bit in `mask` is set.
  void retain(unsigned mask) {
    std::vector<std::uint64_t> ids;
    for (unsigned k = 0; k < keys; ++k)
      if ((mask >> k & 1) == 0 && map_->contains(bytes_of(key_text(k)))) ids.push_back(begin(k, 0));
    map_->retain([&](auto key, auto) {
      for (unsigned k = 0; k < keys; ++k)
        if (std::ranges::equal(key, bytes_of(key_text(k)))) return (mask >> k & 1) != 0;
      return false;
    });
    for (std::uint64_t id : ids)
      h_.ack(id);
    look();
  }

  /// One change of a batch.
  struct step {
    char what; ///< 'i' insert, 'u' update, 's' upsert, 'e' erase
    unsigned key;
    std::uint64_t length = 0;
  };
  enum class end { commit, callers_drain, destroyed };
  /// Makes the changes of all parts in one batch. Each part is flushed at its end, and all are
  /// drained together. A second change of a key implies that the first one is durable.
  void batch(const std::vector<std::vector<step>>& parts, end how = end::commit) {
    std::vector<std::uint64_t> ids;
    {
      durable_map::batch b(*map_);
      for (const auto& part : parts) {
        for (const step& s : part) {
          std::vector<std::uint64_t> now;
          for (std::uint64_t id : ids)
            if (key_of(id) == s.key) now.push_back(id);
          const std::uint64_t id = begin(s.key, s.length);
          const std::string k = key_text(s.key), v = s.length == 0 ? "" : value_text(id, s.length);
          const map_status status = s.what == 'i'   ? b.insert(bytes_of(k), bytes_of(v))
                                    : s.what == 'u' ? b.update(bytes_of(k), bytes_of(v))
                                    : s.what == 's' ? b.upsert(bytes_of(k), bytes_of(v))
                                                    : b.erase(bytes_of(k));
          if (status != map_status::done) return h_.fail("a change of a batch was refused");
          if (!now.empty()) {
            for (std::uint64_t each : ids)
              h_.ack(each);
            ids.clear();
          }
          ids.push_back(id);
        }
        b.flush_changes();
        look();
      }
      if (how == end::commit) b.commit();
      if (how == end::callers_drain) {
        m_.drain();
        b.publish();
      }
    }
    for (std::uint64_t id : ids)
      h_.ack(id);
    look();
  }

  /// Makes a single change while a batch of this thread has changed the same key. The call commits
  /// the batch and its own change, and so both are durable when it returns.
  template <class Fn> void inside_a_batch(step first, std::uint64_t length, Fn&& fn) {
    durable_map::batch b(*map_);
    const std::uint64_t id = begin(first.key, first.length);
    const std::string k = key_text(first.key);
    const std::string before = first.length == 0 ? "" : value_text(id, first.length);
    const map_status status =
        first.what == 'e' ? b.erase(bytes_of(k)) : b.upsert(bytes_of(k), bytes_of(before));
    if (status != map_status::done) return h_.fail("refused in a batch");
    const std::uint64_t second = begin(first.key, length);
    const std::string after = length == 0 ? "" : value_text(second, length);
    if (fn(*map_, k, before, after) != map_status::done) return h_.fail("refused beside a batch");
    h_.ack(second);
    look();
  }
  /// Another thread's batch holds a key to which a batch of this thread comes with a change of its
  /// own. This batch commits before it waits, because two batches could otherwise wait for each
  /// other.
  template <class Fn> void beside_a_batch(step held, Fn&& fn) {
    std::binary_semaphore holds(0), go(0);
    std::thread other([&] {
      durable_map::batch b(*map_);
      const std::uint64_t id = begin(held.key, held.length);
      if (b.upsert(bytes_of(key_text(held.key)), bytes_of(value_text(id, held.length))) !=
          map_status::done)
        h_.fail("refused in the other thread's batch");
      holds.release();
      go.acquire();
      b.commit();
      h_.ack(id);
    });
    holds.acquire();
    at_wait_ = [&] {
      go.release();
      other.join();
    };
    fn();
    if (at_wait_) {
      std::exchange(at_wait_, nullptr)();
      h_.fail("nobody waited for the other thread's batch");
    }
    look();
  }

  /// Makes staged changes in one burst. Where a change is busy, the burst ends before it and a new
  /// one begins.
  void burst(const std::vector<step>& steps) {
    std::vector<std::pair<map_change, std::uint64_t>> open;
    const auto end = [&] {
      for (const auto& [c, id] : open)
        map_->change_flush(c);
      m_.drain();
      for (auto& [c, id] : open) {
        map_->change_finish(c);
        h_.ack(id);
      }
      open.clear();
    };
    for (const step& s : steps) {
      const std::uint64_t id = begin(s.key, s.length);
      const std::string k = key_text(s.key), v = s.length == 0 ? "" : value_text(id, s.length);
      const auto start = [&](map_change& c) {
        return s.what == 'e' ? map_->erase_start(bytes_of(k), c)
                             : map_->upsert_start(bytes_of(k), bytes_of(v), c);
      };
      map_change c{};
      map_status status = start(c);
      if (status == map_status::busy) {
        end();
        status = start(c);
      }
      if (status != map_status::done) return h_.fail("a staged change was refused");
      open.emplace_back(c, id);
    }
    end();
    look();
  }

  void look() {
    for (unsigned k = 0; k < keys; ++k)
      look(k, false);
  }

 private:
  std::uint64_t begin(unsigned key, std::uint64_t length) {
    const std::uint64_t id = change_id(key, ++sequence_);
    h_.begin(id, length);
    return id;
  }
  /// Looks a key up. A new state of the key is recorded as a promise, because a reader has seen it.
  void look(unsigned k, bool fresh) {
    const std::string text = map_.text(key_text(k));
    std::uint64_t id = 0;
    if (text != "(none)") {
      id = id_of(text);
      if (id == 0) return h_.fail("the value of key " + std::to_string(k) + " is not whole");
    }
    if (!fresh && shown_.contains(k) && shown_[k] == id) return;
    shown_[k] = id;
    if (id == 0)
      h_.promise(fresh ? settled_absent : seen_absent, k);
    else
      h_.promise(fresh ? settled : seen, id);
  }

  opened_map map_;
  media& m_;
  history& h_;
  std::uint64_t sequence_;
  std::map<unsigned, std::uint64_t> shown_;
  std::function<void()> at_wait_; ///< called when this thread waits for a claim
};

inline verdict check_map(media& m, const history& h, bool filter, const map_layout& l) {
  opened_map map(m, l, wanted_only(filter));
  if (!map.recovered.notes.empty()) return "damage: " + map.recovered.notes.front();
  std::uint64_t found = 0, blocks = 0;
  for (const auto& [k, may_be] : candidates_of(h)) {
    const std::string key = key_text(k), text = map.text(key);
    const std::string name = "key " + std::to_string(k);
    const bool there = text != "(none)";
    const std::uint64_t id = there ? id_of(text) : 0;
    if (there && id == 0) return name + ": its value is not whole";
    if (std::ranges::none_of(may_be, [&](const candidate& c) {
          return there ? c.id == id && c.length == text.size() : c.length == 0;
        }))
      return name +
             (there ? ": it is change " + std::to_string(id & 0xffff'ffff) : ": it is absent") +
             ", and should be " + std::to_string(may_be.front().id & 0xffff'ffff) +
             (may_be.size() > 1 ? " or later" : "");
    if (!there) continue;
    ++found;
    if (key.size() > map_key_inline) blocks += map.blocks->blocks_for(key.size());
    if (text.size() > map_value_inline) blocks += map.blocks->blocks_for(text.size());
  }
  std::uint64_t walked = 0;
  map->for_each([&](auto, auto) { ++walked; });
  if (walked != found || map->len() != found)
    return "a walk found " + std::to_string(walked) + " entries, expected " + std::to_string(found);
  if (map.live_blocks() != blocks)
    return "live blocks: " + std::to_string(map.live_blocks()) +
           ", reachable blocks: " + std::to_string(blocks);
  // The map must go on working: no cell is lost, and a value over all blocks has room.
  std::uint64_t more = 0;
  while (map->insert(bytes_of("more " + std::to_string(more)), bytes_of("short")) ==
         map_status::done)
    ++more;
  if (found + more != l.cells)
    return "after recovery the map holds " + std::to_string(found) + " entries and has room for " +
           std::to_string(more);
  if (map->retain([](auto, auto) { return false; }) != l.cells)
    return "after recovery retain() did not erase every entry";
  if (map.live_blocks() != 0) return "blocks are live after every entry was erased";
  const std::string longer(l.block_size * l.blocks, 'x');
  if (map->insert(bytes_of("all"), bytes_of(longer)) != map_status::done ||
      map.text("all") != longer)
    return "after recovery a value over all blocks has no room";
  return {};
}

using body = std::function<void(map_world&)>;

inline scenario map_scenario(const std::string& name, body run, bool filter = false,
                             std::uint64_t first = 0, const map_recoverer& recover_by = {}) {
  map_layout layout = crash_layout(first);
  layout.recover_by = recover_by;
  scenario s;
  s.name = "map: " + name;
  s.size = crash_layout().size();
  s.setup = [](media& m, history&) { // at the start no block is zero
    const map_layout l = crash_layout();
    auto* words = reinterpret_cast<std::uint64_t*>(m.base() + l.blocks_offset());
    for (std::uint64_t i = 0; i < l.blocks * l.block_size / 8; ++i)
      m.store(&words[i], 0x0101'0101'0101'0101 * (i % 200 + 1));
  };
  s.run = [run, filter, layout](media& m, history& h) {
    map_world w(m, h, filter, layout);
    run(w);
  };
  s.recover_and_check = [filter, layout](media& m, const history& h) {
    return check_map(m, h, filter, layout);
  };
  // The work after a crash takes cells and chains that were given up before it.
  s.continue_after = [filter, layout](media& m, history& h) {
    map_world w(m, h, filter, layout);
    w.batch({{{'s', 1, 12}, {'s', 4, 100}}});
    w.upsert(0, 130);
    w.erase(1);
    w.upsert(2, 8);
  };
  return s;
}

} // namespace chainring::test
