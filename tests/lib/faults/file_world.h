// SPDX-License-Identifier: BSD-3-Clause
/// A broker over class `file` on a model disk, with one thread and one step at a time. So it is
/// known which mark each packet waited for, and every call that the file got.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "../broker/broker_fixture.h"
#include "../media/model_disk.h"
#include "media/file/file_media.h"
#include "support/seed.h"

namespace chainring::test_faults {

using namespace chainring::testing_broker;
using test::file_bytes;
using test::model_disk;

/// Commits and checkpoints when its only thread would wait for them.
class stepped_media final : public media {
 public:
  explicit stepped_media(std::unique_ptr<file_media> inner) : inner_(std::move(inner)) {
    base_ = inner_->base();
    size_ = inner_->size();
    path_ = inner_->path();
    class_ = durability_class::file;
    kind_ = kind::driver;
  }
  const char* driver_name() const noexcept override { return "file"; }
  mark_t mark() noexcept override { return inner_->mark(); }
  bool durable(mark_t m) noexcept override { return inner_->durable(m); }
  bool failed() const noexcept override { return inner_->failed(); }
  bool has_room() const noexcept override { return inner_->has_room(); }
  std::uint64_t drain_bytes_max() const noexcept override { return inner_->drain_bytes_max(); }
  bool wait(mark_t m) noexcept override {
    while (!inner_->durable(m))
      if (inner_->failed() || !inner_->commit_step()) return false;
    return true;
  }
  result<void> grow(std::uint64_t size) override {
    auto done = inner_->grow(size);
    if (done) size_ = inner_->size();
    return done;
  }
  result<void> close() override { return inner_->close(); }
  file_media& inner() { return *inner_; }

 protected:
  void driver_flush(const void* from, std::size_t n) noexcept override { inner_->flush(from, n); }
  void driver_drain() noexcept override {
    if (!inner_->has_room()) {
      while (inner_->commit_step()) {
      }
      (void)inner_->checkpoint_step();
    }
    inner_->drain();
  }

 private:
  std::unique_ptr<file_media> inner_;
};

inline media_options file_options(std::uint64_t region_size) {
  media_options o;
  o.path = "model";
  o.size = region_size;
  o.journal_size = 1u << 20;
  return o;
}

inline result<std::unique_ptr<stepped_media>> open_file(model_disk& disk) {
  media_options o = file_options(0);
  o.journal_size = 0;
  auto m = file_media::attach(parts_on(disk), o);
  if (!m) return m.error();
  return std::make_unique<stepped_media>(std::move(*m));
}

/// Its packets wait for their marks, as on a port.
class marked_transport final : public net::transport {
 public:
  explicit marked_transport(media& m) : media_(m) {}
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override {
    to_ = to;
    room_.resize(size);
    return room_;
  }
  void commit(std::size_t size) noexcept override {
    made_.emplace_back(to_,
                       bytes(room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  void release(mark_t mark) noexcept override {
    for (auto& p : made_)
      waiting_.push_back({mark, p.first, std::move(p.second)});
    made_.clear();
  }
  /// Hands out, in order, the packets that may leave.
  std::size_t pump(std::map<client_address, std::deque<bytes>>& to) {
    std::size_t left = 0;
    for (; !waiting_.empty() && media_.durable(waiting_.front().mark); ++left) {
      to[waiting_.front().to].push_back(std::move(waiting_.front().data));
      waiting_.pop_front();
    }
    return left;
  }

 private:
  struct packet {
    mark_t mark;
    client_address to;
    bytes data;
  };
  media& media_;
  client_address to_ = 0;
  bytes room_;
  std::vector<std::pair<client_address, bytes>> made_;
  std::deque<packet> waiting_;
};

/// The life of a broker on the disk.
class file_bench {
 public:
  static result<std::unique_ptr<file_bench>> open(model_disk& disk, const broker_config& config,
                                                  bool fresh, const store_layout& layout) {
    auto m = open_file(disk);
    if (!m) return m.error();
    stepped_media* on = m->get();
    auto made = broker_on(std::move(*m), config, fresh, layout);
    if (!made) return made.error();
    return std::unique_ptr<file_bench>(new file_bench(std::move(*made), *on));
  }
  file_media& file() { return media_.inner(); }
  broker& served() { return *bench_.broker; }

  template <class T> void send(client_address from, const T& m) { bench_.send(from, m); }
  /// Runs rounds of the worker, each with a commit, until nothing moves. A checkpoint follows every
  /// third commit.
  void settle() {
    for (int quiet = 0, rounds = 0; quiet < 3 && rounds < 1000; ++rounds) {
      bool any = bench_.turn(0);
      any |= file().commit_step();
      if (++commits_ % 3 == 0) (void)file().checkpoint_step();
      any |= pump() != 0;
      quiet = any ? 0 : quiet + 1;
    }
  }
  std::optional<received> next(client_address at) { return bench_.next(at); }
  template <class Answer, class T> std::optional<received> ask(client_address from, const T& m) {
    send(from, m);
    settle();
    auto r = next(from);
    if (r && r->template get<Answer>() == nullptr) return std::nullopt;
    return r;
  }
  bool connect(client_address from, std::string_view id, bool clean) {
    const auto r = ask<sn::connack>(
        from, sn::connect{.flags = sn::flags{}.with_clean(clean), .client_id = id});
    return r && r->get<sn::connack>()->code == sn::return_code::accepted;
  }
  bool subscribe(client_address from, std::string_view filter) {
    const auto r = ask<sn::suback>(
        from, sn::subscribe{
                  .flags = sn::flags{}.with_qos(sn::qos_level::one), .msg_id = 9, .topic = filter});
    return r && r->get<sn::suback>()->code == sn::return_code::accepted;
  }
  std::uint16_t register_name(client_address from, std::string_view name) {
    const auto r = ask<sn::regack>(from, sn::register_topic{.msg_id = 7, .topic = name});
    return r ? r->get<sn::regack>()->topic_id : 0;
  }
  /// Sends a QoS 1 PUBLISH. accepted() receives the answer.
  void publish(client_address from, std::uint16_t id, std::string_view text, std::uint16_t msg_id) {
    send(from, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                           .topic_id = id,
                           .msg_id = msg_id,
                           .data = std::as_bytes(std::span(text))});
  }
  bool accepted(client_address from, std::uint16_t msg_id) {
    while (auto r = next(from))
      if (const auto* a = r->get<sn::puback>(); a != nullptr && a->msg_id == msg_id)
        return a->code == sn::return_code::accepted;
    return false;
  }
  /// Takes a message without acknowledging it.
  std::optional<std::pair<std::string, sn::puback>> take(client_address at) {
    auto r = next(at);
    if (r && r->get<sn::register_topic>()) {
      const auto* g = r->get<sn::register_topic>();
      send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      settle();
      r = next(at);
    }
    if (!r || !r->get<sn::publish>()) return std::nullopt;
    const auto* p = r->get<sn::publish>();
    return std::pair{std::string(reinterpret_cast<const char*>(p->data.data()), p->data.size()),
                     sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id}};
  }
  std::size_t pump() { return out_.pump(bench_.out.sent); }

 private:
  file_bench(std::unique_ptr<chainring::broker> b, stepped_media& m)
      : media_(m), out_(m), bench_(std::move(b)) {
    bench_.gateway->worker(0).attach(out_);
  }
  stepped_media& media_; ///< owned by the broker's region
  marked_transport out_;
  bench bench_;
  unsigned commits_ = 0;
};

} // namespace chainring::test_faults
