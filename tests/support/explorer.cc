// SPDX-License-Identifier: BSD-3-Clause
/// The exploration: a life is recorded once, then its trace is walked from the start with a model
/// of what is durable. The disk below follows the model, so that at each crash point a state
/// differs from the disk only in the lines still pending, and a life that checks it is a fresh
/// copy-on-write mapping with those lines changed.
#include "support/explorer.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <numeric>
#include <random>
#include <unistd.h>
#include <unordered_set>

#include "support/crash_case.h"
#include "support/crash_model.h"

namespace chainring::test {

namespace {

constexpr std::uint64_t end_of_life = ~0ull; // note() that closes a trace

kept_lines chosen(const state_space& space, std::span<const std::uint32_t> state) {
  kept_lines kept;
  for (std::size_t i = 0; i < state.size(); ++i)
    if (state[i] != 0)
      kept.emplace_back(space.lines()[i].offset, space.lines()[i].choices[state[i]]);
  return kept;
}

kept_lines all_pending(const crash_model& model) {
  kept_lines kept;
  for (const auto& [offset, words] : model.pending())
    kept.emplace_back(offset, model.everything(offset));
  return kept;
}

/// Passes on to the user's observer, and notes when it suppresses its first call.
class suppression final : public persist_observer {
 public:
  suppression(persist_observer* user, const sim_media& life) : user_(user), life_(life) {}
  void on_store(const std::uint64_t* word, std::uint64_t value, const site& s) noexcept override {
    user_->on_store(word, value, s);
  }
  void on_write(const void* to, const void* from, std::size_t n, const site& s) noexcept override {
    user_->on_write(to, from, n, s);
  }
  bool on_flush(const void* from, std::size_t n, const site& s) noexcept override {
    return noted(user_->on_flush(from, n, s));
  }
  bool on_drain(const site& s) noexcept override { return noted(user_->on_drain(s)); }
  /// Events of the life before the first call that was suppressed; all of them where none was.
  [[nodiscard]] std::uint64_t events_before() const { return events_; }

 private:
  bool noted(bool allowed) noexcept {
    if (!allowed) events_ = std::min<std::uint64_t>(events_, life_.trace().events.size());
    return allowed;
  }
  persist_observer* user_;
  const sim_media& life_;
  std::uint64_t events_ = ~0ull;
};

} // namespace

class exploration {
 public:
  exploration(const scenario& s, const explorer_options& o, std::optional<crash_case> replay)
      : s_(s), o_(o), replay_(std::move(replay)) {
    report_.name = s.name;
  }

  explorer_report run();

  /// The case being run, for a report from a signal handler.
  static exploration* current;
  [[nodiscard]] crash_case now() const { return {o_.seed, schedule_.text(), steps_, s_.name}; }

 private:
  /// A life being crashed: its trace, the disk and model that follow it, and its whole history.
  struct past {
    int level;
    const sim_trace& trace;
    std::shared_ptr<sim_disk> disk;
    crash_model model;
    const history& whole;
    history at_point; ///< what of `whole` had happened
    bool marks_held = false;
    std::uint64_t known_events = 0; ///< so far it is the same as a life that is known to hold
  };
  struct crash_point {
    std::uint64_t position;
    const char* when;
    site where;
    bool between_stores = false; ///< only process death is tried here
    bool starts_lives = true;    ///< another life follows, if the depth allows one
  };

  bool explore_once();
  std::vector<crash_point> points(const past& p) const;
  void add_deaths(const past& p, std::vector<crash_point>& out) const;
  void advance(past& p, std::uint64_t& position, std::uint64_t to);
  bool die_at(past& p);
  bool crash_behind_marks(past& p, const crash_point& at);
  bool crash_everywhere(past& p);
  bool crash_at(past& p, const crash_point& at);
  bool replay_at(past& p, const crash_point& at);
  verdict check(past& p, const kept_lines& kept) { return check(p, kept, p.at_point); }
  verdict check(past& p, const kept_lines& kept, const history& told);
  bool next_life(past& p, crash_kind kind, const kept_lines& kept, std::uint64_t hash);
  bool finish_life(sim_media& m, history& h, sim_trace& trace);
  void minimise(past& p, const crash_point& at, const state_space& space,
                std::vector<std::uint32_t> state, std::string reason);
  void fail(const std::string& reason, const std::string& detail);
  bool fail_life(const std::string& reason) {
    fail(reason, "");
    return false;
  }
  /// Whether o_.known has results of an earlier exploration.
  [[nodiscard]] bool is_mutant() const { return o_.known != nullptr && !o_.known->empty(); }
  [[nodiscard]] bool first_life(const past& p) const {
    return p.level == 0 && report_.schedules == 0;
  }

  const scenario& s_;
  explorer_options o_;
  std::optional<crash_case> replay_;
  explorer_report report_;
  schedule schedule_;
  std::vector<crash_step> steps_;
  std::vector<std::string> places_;              ///< of steps_, in words
  std::vector<std::shared_ptr<sim_disk>> disks_; ///< by level
  std::vector<std::uint64_t> disk_sizes_;        ///< most bytes of each in use so far
  std::unordered_set<std::uint64_t> checked_;    ///< image and history
  std::unordered_set<std::uint64_t> lived_;
};

exploration* exploration::current = nullptr;

// --- history -------------------------------------------------------------------------------------

void history::record(int kind, std::uint64_t id, std::uint64_t value, const site& s) {
  const std::lock_guard guard(lock_);
  entries_.push_back({kind, id, value});
  hash_ = mix(mix(mix(hash_ ^ static_cast<std::uint64_t>(kind)) ^ id) ^ value);
  if (life_ != nullptr) life_->note(entries_.size() - 1, s);
}

void history::fail(std::string reason) {
  const std::lock_guard guard(lock_);
  if (failure_.empty()) failure_ = std::move(reason);
}

bool history::has(int kind, std::uint64_t id) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const entry& e) { return e.kind == kind && e.id == id; });
}

std::vector<std::uint64_t> history::ids(int kind) const {
  std::vector<std::uint64_t> out;
  for (const entry& e : entries_)
    if (e.kind == kind) out.push_back(e.id);
  return out;
}

std::optional<std::uint64_t> history::value(int kind, std::uint64_t id) const {
  for (auto e = entries_.rbegin(); e != entries_.rend(); ++e)
    if (e->kind == kind && e->id == id) return e->value;
  return std::nullopt;
}

void history::copy_from(const history& other) {
  entries_ = other.entries_;
  hash_ = other.hash_;
  seed_ = other.seed_;
  crashes_ = other.crashes_;
}

// --- lives ---------------------------------------------------------------------------------------

bool exploration::finish_life(sim_media& m, history& h, sim_trace& trace) {
  m.note(end_of_life);
  m.observe(nullptr);
  h.life_ = nullptr;
  ++report_.lives;
  trace = m.take_trace();
  if (m.joined() > 0)
    return fail_life("the scenario still has the region open: drop every object before returning");
  if (!m.violations().empty()) return fail_life(m.violations().front());
  if (!h.failure_.empty()) return fail_life(h.failure_);
  return true;
}

bool exploration::explore_once() {
  disks_.reserve(static_cast<std::size_t>(o_.depth) +
                 1); // references are held while deeper lives run
  disk_sizes_.reserve(static_cast<std::size_t>(o_.depth) + 1);
  disks_.assign(1, sim_disk::create(s_.size, s_.size_max));
  disks_[0]->limit_drains(s_.drain_bytes_max);
  disk_sizes_.assign(1, 0);
  auto& disk = disks_[0];
  history h;
  h.seed_ = o_.seed;
  h.schedule_ = &schedule_;
  if (s_.setup) {
    auto m = disk->boot(false);
    s_.setup(*m, h);
    m->settle();
    if (m->joined() > 0) return fail_life("setup still has the region open");
    if (!h.failure_.empty()) return fail_life("setup: " + h.failure_);
  }
  history at_start;
  at_start.copy_from(h);
  sim_trace trace;
  std::uint64_t known_events = 0;
  {
    auto m = disk->boot(true);
    suppression watch(o_.observer, *m);
    m->observe(o_.observer != nullptr ? &watch : nullptr);
    h.life_ = m.get();
    s_.run(*m, h);
    if (!finish_life(*m, h, trace)) return false;
    if (is_mutant()) known_events = watch.events_before();
  }
  past p{0, trace, disk, crash_model(disk->bytes()), h, {}};
  p.at_point.copy_from(at_start);
  p.known_events = known_events;
  return crash_everywhere(p);
}

bool exploration::next_life(past& p, crash_kind kind, const kept_lines& kept, std::uint64_t hash) {
  const auto level = static_cast<std::size_t>(p.level) + 1;
  if (disks_.size() <= level) {
    disks_.push_back(sim_disk::create(s_.size, s_.size_max));
    disks_.back()->limit_drains(s_.drain_bytes_max);
    disk_sizes_.push_back(0);
  }
  // The disk of the next life starts as this one's durable image; what grew beyond it reads as
  // zero.
  auto& disk = disks_[level];
  auto& most = disk_sizes_[level];
  const std::uint64_t size = p.model.size();
  disk->resize(std::max(size, most));
  std::memcpy(disk->bytes().data(), p.disk->bytes().data(), size);
  if (most > size) std::memset(disk->bytes().data() + size, 0, most - size);
  disk->resize(size);

  history h;
  h.copy_from(p.at_point);
  h.crashes_ = p.level + 1;
  schedule threads = o_.schedules.random > 0 ? schedule::seeded(o_.seed) : schedule{};
  h.schedule_ = &threads;
  sim_trace trace;
  const bool same_start = is_mutant() && steps_.back().position <= p.known_events;
  std::uint64_t known_events = 0;
  if (kind == crash_kind::power_loss)
    for (const auto& [offset, c] : kept) {
      const line_bytes line = p.model.content(offset, c);
      std::memcpy(disk->bytes().data() + offset, line.data(), sizeof line);
    }
  {
    auto m = disk->boot(true);
    if (kind == crash_kind::process_death)
      for (const auto& [offset, c] : kept) {
        const line_bytes line = p.model.content(offset, c);
        m->poke(offset, line.data(), sizeof line);
      }
    suppression watch(o_.observer, *m);
    m->observe(o_.observer != nullptr ? &watch : nullptr);
    h.life_ = m.get();
    if (s_.continue_after) {
      s_.continue_after(*m, h);
    } else if (verdict bad = s_.recover_and_check(*m, h); bad.has_value()) {
      return fail_life("in the next life: " + *bad);
    }
    if (!finish_life(*m, h, trace)) return false;
    // It began as a known life did; where nothing was suppressed in it, it also went on like that.
    if (same_start) known_events = watch.events_before();
    if (known_events == ~0ull) return true;
  }
  past next{p.level + 1,
            trace,
            disk,
            kind == crash_kind::power_loss ? crash_model(disk->bytes(), hash)
                                           : p.model.after_process_death(disk->bytes()),
            h,
            {}};
  next.at_point.copy_from(p.at_point);
  next.at_point.crashes_ = p.level + 1;
  next.known_events = known_events;
  most = std::max(most, size);
  const bool held = crash_everywhere(next);
  most = std::max(most, next.model.size());
  return held;
}

verdict exploration::check(past& p, const kept_lines& kept, const history& told) {
  ++report_.recoveries;
  auto m = p.disk->boot(false);
  for (const auto& [offset, c] : kept) {
    const line_bytes line = p.model.content(offset, c);
    m->poke(offset, line.data(), sizeof line);
  }
  verdict bad = s_.recover_and_check(*m, told);
  if (!bad && m->joined() > 0) bad = "recover_and_check still has the region open";
  return bad;
}

// --- crash points --------------------------------------------------------------------------------

std::vector<exploration::crash_point> exploration::points(const past& p) const {
  std::vector<crash_point> out;
  const auto add = [&](std::uint64_t position, const char* when, const site& where) {
    if (out.empty() || out.back().position != position) out.push_back({position, when, where});
  };
  const auto& events = p.trace.events;
  for (std::uint64_t i = 0; i < events.size(); ++i) {
    const sim_event& e = events[i];
    if (e.call == sim_call::drain) {
      add(i, "before drain", e.where);
      add(i + 1, "after drain", e.where);
    } else if (e.call == sim_call::grow) {
      add(i + 1, "after growth", e.where);
    } else if (e.call == sim_call::hold) {
      add(i + 1, "as marks are held", e.where);
    } else if (e.call == sim_call::note && e.offset == end_of_life) {
      add(i, "at the end", e.where);
    } else if (e.call == sim_call::note &&
               p.whole.entries()[e.offset].kind != history::begun_kind) {
      add(i + 1, "at the acknowledgement", e.where);
    }
  }
  if (o_.second_points != 0 && out.size() > o_.second_points) {
    std::vector<std::size_t> order(out.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::shuffle(order, std::mt19937_64(mix(o_.seed ^ mix(out.size()))));
    for (const std::size_t i : std::span(order).subspan(o_.second_points))
      out[i].starts_lives = false;
  }
  add_deaths(p, out);
  return out;
}

// A sample of the places behind a store. Direct stores are seen late, at the next flush or drain.
void exploration::add_deaths(const past& p, std::vector<crash_point>& out) const {
  const std::size_t deaths = p.level == 0 ? o_.deaths : o_.second_deaths;
  if (deaths == 0) return;
  std::vector<crash_point> places;
  const auto& events = p.trace.events;
  for (std::uint64_t i = 0; i < events.size(); ++i) {
    const sim_call c = events[i].call;
    if (c != sim_call::store && c != sim_call::write && c != sim_call::direct) continue;
    if (std::ranges::any_of(out, [&](const crash_point& x) { return x.position == i + 1; }))
      continue;
    places.push_back({i + 1, "after a store", events[i].where, true});
  }
  std::mt19937_64 random(mix(o_.seed ^ mix(places.size())));
  std::vector<crash_point> chosen;
  std::ranges::sample(places, std::back_inserter(chosen), static_cast<std::ptrdiff_t>(deaths),
                      random);
  std::vector<crash_point> all; // both parts are in order, and points at one place stay in it
  std::ranges::merge(out, chosen, std::back_inserter(all), {}, &crash_point::position,
                     &crash_point::position);
  out.swap(all);
}

void exploration::advance(past& p, std::uint64_t& position, std::uint64_t to) {
  for (; position < to; ++position) {
    const sim_event& e = p.trace.events[position];
    p.model.apply(p.trace, e);
    if (e.call == sim_call::grow) p.disk->resize(e.offset);
    if (e.call == sim_call::hold) p.marks_held = true;
    if (e.call == sim_call::reach) p.marks_held = e.count == 0;
    if (e.call == sim_call::note && e.offset < p.whole.entries().size()) {
      const history::entry& n = p.whole.entries()[e.offset];
      p.at_point.record(n.kind, n.id, n.value, e.where);
    }
  }
}

bool exploration::crash_everywhere(past& p) {
  std::uint64_t position = 0;
  for (const crash_point& at : points(p)) {
    advance(p, position, at.position);
    steps_.push_back({crash_kind::power_loss, at.position, {}});
    places_.push_back(std::string(at.when) + " " + place(at.where) + ", after " +
                      std::to_string(at.position) + " of " +
                      std::to_string(p.trace.events.size() - 1) + " events");
    if (o_.noise) p.model.fill_scratch(mix(o_.seed ^ mix(report_.crash_points)));
    if (at.between_stores && !replay_.has_value()) {
      if (!die_at(p)) return false;
      steps_.pop_back();
      places_.pop_back();
      continue;
    }
    ++report_.crash_points;
    if (!(replay_.has_value() ? replay_at(p, at) : crash_at(p, at) && crash_behind_marks(p, at)))
      return false;
    steps_.pop_back();
    places_.pop_back();
  }
  return true;
}

bool exploration::crash_at(past& p, const crash_point& at) {
  const std::uint64_t states_max = p.level == 0 ? o_.states_max : o_.second_states_max;
  const state_space space(p.model, states_max);
  const std::uint64_t seed = mix(o_.seed ^ mix(at.position + 1000003 * p.level));
  std::uint64_t states = 0;
  std::vector<std::vector<std::uint32_t>> lives; // nothing, everything, then a random sample
  const bool last = p.level + 1 >= o_.depth || !at.starts_lives;
  const unsigned lives_max = last ? 0 : o_.second_lives;
  std::uint64_t random = seed;

  const bool held = space.for_each(
      seed,
      [&](std::span<const std::uint32_t> state) {
        ++states;
        if (lives.size() < lives_max) {
          lives.emplace_back(state.begin(), state.end());
        } else if (lives_max > 2) {
          random = mix(random);
          const std::uint64_t i = random % states;
          if (i >= 2 && i < lives_max) lives[i].assign(state.begin(), state.end());
        }
        const std::uint64_t key = mix(p.model.hash() + space.hash(state)) ^ p.at_point.hash_;
        if (!checked_.insert(key).second) return true;
        if (at.position <= p.known_events || (o_.known != nullptr && o_.known->contains(key)))
          return true;
        steps_.back().kept = chosen(space, state);
        verdict bad = check(p, steps_.back().kept);
        if (!bad) return true;
        if (o_.minimal)
          minimise(p, at, space, {state.begin(), state.end()}, *bad);
        else
          fail(*bad, {});
        return false;
      },
      o_.sample);
  report_.states += states;
  report_.exhaustive_points += space.exhaustive();
  if (first_life(p)) report_.first_life.push_back({places_.back(), states, space.exhaustive()});
  if (!held) return false;
  if (last) return true;

  if (lives.size() > 1)
    for (std::size_t i = 0; i < space.lines().size(); ++i)
      lives[1][i] = space.lines()[i].everything;
  for (const auto& state : lives) {
    const std::uint64_t hash = p.model.hash() + space.hash(state);
    if (!lived_.insert(mix(hash) ^ p.at_point.hash_).second) continue;
    steps_.back().kept = chosen(space, state);
    if (!next_life(p, crash_kind::power_loss, steps_.back().kept, hash)) return false;
  }
  if (!o_.process_death || p.model.pending().empty()) return true;
  steps_.back() = {crash_kind::process_death, at.position, {}};
  return next_life(p, crash_kind::process_death, all_pending(p.model), 0);
}

// The process dies between two stores: what was visible is what the next life finds.
bool exploration::die_at(past& p) {
  ++report_.deaths;
  steps_.back() = {crash_kind::process_death, steps_.back().position, {}};
  const kept_lines kept = all_pending(p.model);
  if (steps_.back().position > p.known_events)
    if (verdict bad = check(p, kept); bad.has_value()) return fail_life(*bad);
  return p.level + 1 >= o_.depth || next_life(p, crash_kind::process_death, kept, 0);
}

// While marks are held, nothing drained since the last one reached need be durable. So this image
// may be what is left at any later moment, up to the one at which more became durable: everything
// that was told to the outside until then must hold for it.
bool exploration::crash_behind_marks(past& p, const crash_point& at) {
  if (!p.marks_held) return true;
  history told;
  told.copy_from(p.at_point);
  const auto& events = p.trace.events;
  std::uint64_t later_drain = ~0ull; // ends at
  for (std::uint64_t i = at.position; i < events.size(); ++i) {
    const sim_event& e = events[i];
    if (e.call == sim_call::drain) later_drain = std::min(later_drain, i);
    if (e.call == sim_call::reach && e.offset > later_drain) break;
    if (e.call != sim_call::note || e.offset >= p.whole.entries().size()) continue;
    const history::entry& n = p.whole.entries()[e.offset];
    told.record(n.kind, n.id, n.value, e.where);
    if (n.kind == history::begun_kind || later_drain == ~0ull) continue;
    if (!checked_.insert(mix(p.model.hash()) ^ told.hash_).second) continue;
    ++report_.ordered;
    steps_.back() = {crash_kind::power_loss, at.position, {}, i + 1};
    if (verdict bad = check(p, {}, told); bad.has_value())
      return fail_life(*bad + ", told at " + place(e.where) + " before its mark was reached");
  }
  return true;
}

bool exploration::replay_at(past& p, const crash_point& at) {
  const auto level = static_cast<std::size_t>(p.level);
  if (level >= replay_->steps.size() || replay_->steps[level].position != at.position) return true;
  const crash_step& step = replay_->steps[level];
  if (step.struck != 0) return crash_behind_marks(p, at);
  steps_.back() = step;
  ++report_.states;
  const kept_lines kept = step.kind == crash_kind::power_loss ? step.kept : all_pending(p.model);
  const bool last = level + 1 == replay_->steps.size();
  if (step.kind == crash_kind::process_death && last && at.between_stores) return die_at(p);
  if (step.kind == crash_kind::power_loss && last) {
    if (verdict bad = check(p, kept); bad.has_value()) {
      std::vector<std::uint64_t> lost;
      for (const auto& [offset, words] : p.model.pending())
        lost.push_back(offset);
      fail(*bad, describe(p.model, kept, lost));
      return false;
    }
    if (p.level + 1 >= o_.depth) return true;
  }
  std::uint64_t hash = 0;
  return next_life(p, step.kind, kept, hash);
}

// --- failures ------------------------------------------------------------------------------------

void exploration::minimise(past& p, const crash_point&, const state_space& space,
                           std::vector<std::uint32_t> state, std::string reason) {
  const auto fails = [&](const std::vector<std::uint32_t>& s) {
    verdict bad = check(p, chosen(space, s));
    if (bad) reason = *bad;
    return bad.has_value();
  };
  // First as much kept as possible, which leaves the lines that must be lost; then, of what is
  // kept, only what the failure needs.
  const std::size_t n = space.lines().size();
  std::vector<bool> was_whole(n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t was = std::exchange(state[i], space.lines()[i].everything);
    was_whole[i] = was == state[i] || fails(state);
    if (!was_whole[i]) state[i] = was;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t was = std::exchange(state[i], 0);
    if (was != 0 && !fails(state)) state[i] = was;
  }
  steps_.back().kept = chosen(space, state);
  if (!fails(state)) reason += " (not every time: the scenario is not deterministic)";
  std::vector<std::uint64_t> must_drop;
  for (std::size_t i = 0; i < n; ++i)
    if (!was_whole[i]) must_drop.push_back(space.lines()[i].offset);
  fail(reason, describe(p.model, steps_.back().kept, must_drop));
}

void exploration::fail(const std::string& reason, const std::string& detail) {
  const crash_case c = now();
  report_.replay = c.text();
  std::string out = "crash explorer: " + s_.name + ": " + reason + "\n";
  out += "  seed " + std::to_string(o_.seed) + ", thread schedule " + c.schedule_text + "\n";
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    out += "  crash " + std::to_string(i + 1) + ": " +
           (steps_[i].kind == crash_kind::power_loss ? "power loss " : "process death ") +
           places_[i] + "\n";
    if (i + 1 < steps_.size() && steps_[i].kind == crash_kind::power_loss)
      out += "    " + std::to_string(steps_[i].kept.size()) + " pending lines kept\n";
  }
  out += detail;
  out += "  replay: CHAINRING_REPLAY='" + report_.replay + "'\n";
  report_.failure = out;
}

namespace {

extern "C" void report_signal(int number) {
  // Not safe in a handler in general; the process is ending, and the case is worth the risk.
  signal(number, SIG_DFL);
  if (exploration::current != nullptr) {
    const std::string text = "crash explorer: signal " + std::to_string(number) +
                             "; replay: CHAINRING_REPLAY='" + exploration::current->now().text() +
                             "'\n";
    if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
  }
  raise(number);
}

} // namespace

explorer_report exploration::run() {
  const auto start = std::chrono::steady_clock::now();
  constexpr int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
  struct sigaction before[std::size(fatal)];
  struct sigaction ours {};
  ours.sa_handler = report_signal;
  for (std::size_t i = 0; i < std::size(fatal); ++i)
    sigaction(fatal[i], &ours, &before[i]);
  current = this;

  if (replay_.has_value()) {
    o_.seed = replay_->seed;
    o_.depth = std::max<int>(o_.depth, static_cast<int>(replay_->steps.size()));
    schedule_ = schedule::from_text(replay_->schedule_text).value_or(schedule{});
    explore_once();
    ++report_.schedules;
  } else {
    schedule_source source(o_.schedules, o_.seed);
    auto next = source.next(nullptr);
    while (next.has_value()) {
      schedule_ = *next;
      if (!explore_once()) break;
      ++report_.schedules;
      next = source.next(&schedule_);
    }
  }

  if (o_.known != nullptr && report_.ok()) o_.known->insert(checked_.begin(), checked_.end());
  current = nullptr;
  for (std::size_t i = 0; i < std::size(fatal); ++i)
    sigaction(fatal[i], &before[i], nullptr);
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (o_.print) {
    std::printf("%s\n", report_.line().c_str());
    if (report_.deaths != 0)
      std::printf("  process deaths between two stores: %llu\n",
                  static_cast<unsigned long long>(report_.deaths));
    if (report_.ordered != 0)
      std::printf("  images checked while marks were held: %llu\n",
                  static_cast<unsigned long long>(report_.ordered));
    if (!report_.ok()) std::printf("%s", report_.failure.c_str());
    std::fflush(stdout);
  }
  return std::move(report_);
}

std::string explorer_report::header() {
  char text[256];
  std::snprintf(text, sizeof text, "%-48s %7s %7s %9s %10s %6s %6s %8s", "scenario", "points",
                "exhaust", "states", "recoveries", "lives", "sched", "seconds");
  return text;
}

std::string explorer_report::line() const {
  char text[512];
  std::snprintf(text, sizeof text, "%-48s %7llu %7llu %9llu %10llu %6llu %6llu %8.2f%s",
                name.c_str(), static_cast<unsigned long long>(crash_points),
                static_cast<unsigned long long>(exhaustive_points),
                static_cast<unsigned long long>(states),
                static_cast<unsigned long long>(recoveries), static_cast<unsigned long long>(lives),
                static_cast<unsigned long long>(schedules), seconds, ok() ? "" : "  FAILED");
  return text;
}

explorer_report explore(const scenario& s, const explorer_options& options,
                        const std::string& replay) {
  // Each state opens everything anew: the heap keeps what was freed, rather than ask for it again.
  static const bool kept = mallopt(M_TRIM_THRESHOLD, 1 << 30) != 0 &&
                           mallopt(M_MMAP_THRESHOLD, 1 << 30) != 0 &&
                           mallopt(M_TOP_PAD, 16 << 20) != 0;
  static_cast<void>(kept);
  const char* environment = std::getenv("CHAINRING_REPLAY");
  const std::string text = !replay.empty() ? replay : environment != nullptr ? environment : "";
  std::optional<crash_case> wanted;
  if (!text.empty()) {
    wanted = crash_case::from_text(text);
    explorer_report none;
    none.name = s.name;
    if (!wanted.has_value()) {
      none.failure = "CHAINRING_REPLAY: not a case of the crash explorer: " + text + "\n";
      return none;
    }
    if (wanted->scenario_name != s.name) return none;
  }
  explorer_options o = options;
  o.seed = seed_from_environment(o.seed);
  return exploration(s, o, std::move(wanted)).run();
}

std::unique_ptr<media> join_life(media& m) {
  media_options options;
  options.path = m.path();
  auto joined = open_media(options);
  if (!joined) std::fprintf(stderr, "join_life: %s\n", joined.error().message.c_str());
  CHAINRING_ASSERT(joined.ok());
  return std::move(joined).value();
}

} // namespace chainring::test
