// SPDX-License-Identifier: BSD-3-Clause
#include "support/crash_model.h"

#include <cstring>

namespace chainring::test {

std::uint64_t line_hash(std::uint64_t offset, const line_bytes& content) {
  std::uint64_t h = mix(offset + 1);
  for (std::uint64_t w : content)
    h = mix(h ^ w);
  return h;
}

crash_model::crash_model(std::span<std::byte> durable) : durable_(durable), size_(durable.size()) {
  for (std::uint64_t at = 0; at < size_; at += cacheline_size)
    hash_ += line_hash(at, durable_line(at));
}

crash_model crash_model::after_process_death(std::span<std::byte> durable) const {
  crash_model next = *this;
  next.durable_ = durable;
  next.flushes_.clear();
  next.scratch_.clear();
  for (auto& [offset, line] : next.pending_)
    for (pending_word& p : line)
      p.settled = std::min(p.settled, order_);
  return next;
}

line_bytes crash_model::durable_line(std::uint64_t offset) const {
  line_bytes line;
  std::memcpy(line.data(), durable_.data() + offset, cacheline_size);
  return line;
}

void crash_model::set_word(std::uint64_t offset, std::uint64_t value) {
  const std::uint64_t line = offset / cacheline_size * cacheline_size;
  hash_ -= line_hash(line, durable_line(line));
  std::memcpy(durable_.data() + offset, &value, 8);
  hash_ += line_hash(line, durable_line(line));
}

line_bytes crash_model::content(std::uint64_t offset, const line_choice& c) const {
  line_bytes line = durable_line(offset);
  auto at = pending_.find(offset);
  if (at == pending_.end()) return line;
  std::uint32_t stores = 0;
  std::array<std::uint8_t, 8> seen{};
  for (const pending_word& p : at->second)
    if (p.ordered ? stores++ < c.stores : ++seen[p.word] == c.version[p.word])
      line[p.word] = p.value;
  return line;
}

line_choice crash_model::everything(std::uint64_t offset) const {
  line_choice all;
  auto at = pending_.find(offset);
  if (at == pending_.end()) return all;
  for (const pending_word& p : at->second)
    if (p.ordered)
      ++all.stores;
    else
      ++all.version[p.word];
  return all;
}

bool crash_model::is_scratch(std::uint64_t offset) const {
  auto after = scratch_.upper_bound(offset);
  return after != scratch_.begin() && std::prev(after)->second > offset;
}

void crash_model::apply(const sim_trace& trace, const sim_event& e) {
  ++order_;
  switch (e.call) {
  case sim_call::store:
  case sim_call::write:
  case sim_call::direct:
    for (std::uint64_t i = 0; i < e.count; ++i) {
      const std::uint64_t at = e.offset + 8 * i;
      if (is_scratch(at)) continue;
      auto& line = pending_[at / cacheline_size * cacheline_size];
      const auto word = static_cast<std::uint8_t>(at % cacheline_size / 8);
      // A direct store is an ordinary store, coherent at once. A write() may wait in its processor.
      const std::uint64_t settled = e.call == sim_call::write ? ~0ull : order_;
      line.push_back({order_, trace.values[e.values + i], settled, e.where, e.thread, word,
                      e.call == sim_call::store});
    }
    break;
  case sim_call::flush:
    for (std::uint64_t line = e.offset; line < e.offset + e.count; line += cacheline_size)
      if (pending_.contains(line)) flushes_[e.thread].push_back({line, order_});
    break;
  case sim_call::drain: {
    for (const flushed& f : flushes_[e.thread])
      make_durable(f.line, f.order, e.thread);
    flushes_[e.thread].clear();
    for (auto& [offset, line] : pending_)
      for (pending_word& p : line)
        if (p.thread == e.thread && p.settled == ~0ull) p.settled = order_;
    break;
  }
  case sim_call::grow: {
    for (std::uint64_t at = size_; at < e.offset; at += cacheline_size)
      hash_ += line_hash(at, durable_line(at));
    durable_ = {durable_.data(), e.offset};
    size_ = e.offset;
    break;
  }
  case sim_call::scratch:
    change_scratch(e.offset, e.offset + e.count, true);
    break;
  case sim_call::retract:
    change_scratch(e.offset, e.offset + e.count, false);
    break;
  case sim_call::note:
  case sim_call::hold:
  case sim_call::reach:
    break;
  }
}

void crash_model::make_durable(std::uint64_t offset, std::uint64_t flush_order,
                               std::uint16_t thread) {
  auto at = pending_.find(offset);
  if (at == pending_.end()) return;
  auto& line = at->second;
  const auto covered = [&](const pending_word& p) {
    return p.order <= flush_order && (p.ordered || p.thread == thread || p.settled <= flush_order);
  };
  // order of the last word made durable; earlier words no longer show
  std::array<std::uint64_t, 8> last{};
  for (const pending_word& p : line)
    if (covered(p)) {
      set_word(offset + 8u * p.word, p.value);
      last[p.word] = p.order;
    }
  // A prefix of stores is durable as a whole, so no store that is left precedes one that is
  // durable.
  std::erase_if(line, [&](const pending_word& p) { return covered(p) || p.order < last[p.word]; });
  if (line.empty()) pending_.erase(at);
}

void crash_model::change_scratch(std::uint64_t from, std::uint64_t to, bool declared) {
  for (std::uint64_t line = from; line < to; line += cacheline_size) {
    if (is_scratch(line) == declared) continue;
    if (declared) {
      pending_.erase(line);
      hash_ -= line_hash(line, durable_line(line));
    } else {
      hash_ += line_hash(line, durable_line(line));
    }
  }
  std::map<std::uint64_t, std::uint64_t> changed;
  for (const auto& [start, end] : scratch_) {
    if (start < std::min(end, from)) changed.emplace(start, std::min(end, from));
    if (std::max(start, to) < end) changed.emplace(std::max(start, to), end);
  }
  if (declared) changed.emplace(from, to);
  scratch_ = std::move(changed);
}

void crash_model::fill_scratch(std::uint64_t seed) {
  for (const auto& [start, end] : scratch_)
    for (std::uint64_t at = start; at < end; at += 8) {
      const std::uint64_t noise = mix(seed ^ at);
      std::memcpy(durable_.data() + at, &noise, 8);
    }
}

} // namespace chainring::test
