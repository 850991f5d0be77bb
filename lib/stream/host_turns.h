// SPDX-License-Identifier: BSD-3-Clause
/// Things that wait, in a line for each host, of which the hosts take turns: whoever makes much
/// wait, waits for himself.
///
///     host_turns<job*> waiting;
///     const auto place = waiting.add(net::host_of(from), job);
///     while (crew.has_room() && waiting.size() != 0) crew.submit(*waiting.take());
///     waiting.remove(place);   // of what need not wait any more
///
/// **Complexity:** each call takes constant time. add() allocates.
/// **Memory:** what waits is for the caller to bound; a host without a line takes nothing.
///
/// Thread-safety: one thread makes all calls.
#pragma once
#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <utility>

namespace chainring::stream {

template <class T> class host_turns {
 public:
  /// Where a thing waits, until it is taken or removed.
  class place {
    friend class host_turns;
    std::uint64_t host = 0;
    typename std::list<T>::iterator at{};
  };

  place add(std::uint64_t host, T thing) {
    line& l = lines_[host];
    if (l.things.empty()) l.turn = turns_.insert(turns_.end(), host);
    ++size_;
    place p;
    p.host = host;
    p.at = l.things.insert(l.things.end(), std::move(thing));
    return p;
  }
  /// Takes the oldest thing of the host whose turn it is. Something must wait.
  [[nodiscard]] T take() noexcept {
    const auto found = lines_.find(turns_.front());
    line& l = found->second;
    T thing = std::move(l.things.front());
    l.things.pop_front();
    --size_;
    if (l.things.empty())
      forget(found);
    else
      turns_.splice(turns_.end(), turns_, l.turn);
    return thing;
  }
  /// Takes a thing out of its line, which must still be there.
  void remove(const place& p) noexcept {
    const auto found = lines_.find(p.host);
    found->second.things.erase(p.at);
    --size_;
    if (found->second.things.empty()) forget(found);
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  struct line {
    std::list<T> things;                       ///< the oldest is first; never empty
    std::list<std::uint64_t>::iterator turn{}; ///< of the host, in turns_
  };
  void forget(typename std::unordered_map<std::uint64_t, line>::iterator of) noexcept {
    turns_.erase(of->second.turn);
    lines_.erase(of);
  }

  std::unordered_map<std::uint64_t, line> lines_; ///< by host
  std::list<std::uint64_t> turns_;                ///< the hosts that have a line, once each
  std::size_t size_ = 0;
};

} // namespace chainring::stream
