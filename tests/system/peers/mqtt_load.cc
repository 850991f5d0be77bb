// SPDX-License-Identifier: BSD-3-Clause
// Loads an MQTT server by libpaho-mqtt, as dpdk-chainring-gen loads an MQTT-SN broker: N publishers
// and N subscribers, each with a connection and a durable session of its own; publisher n and
// subscriber n share a topic. A publisher has at most UNACKED messages at QoS 1 without their
// PUBACK, and at most UNDELIVERED that its subscriber has not received, so that no queue grows in
// the server. Prints a line with counts at each report interval, and at the end one line of JSON:
// rates over the measured seconds, the latency from MQTTAsync_send() to the PUBACK and to the
// delivery, and the CPU time of this process. The exit status is 0 when every acknowledged message
// was delivered and in order, and 1 otherwise.
//
//   mqtt_load URI CLIENTS UNACKED UNDELIVERED PAYLOAD_OCTETS WARM_UP_SECONDS SECONDS
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/resource.h>
#include <vector>

#include "common/latency.h"

extern "C" {
#include <MQTTAsync.h>
}

namespace {

using namespace std::chrono_literals;

constexpr auto hang = 30s; // this timeout only detects hangs

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / 1ns);
}

double cpu_seconds() {
  rusage r{};
  getrusage(RUSAGE_SELF, &r);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return of(r.ru_utime) + of(r.ru_stime);
}

/// How each payload begins.
struct stamp {
  std::uint64_t sent_ns;
  std::uint32_t publisher, number;
};

class load;

/// A publisher or a subscriber.
struct client {
  load* of = nullptr;
  std::uint32_t number = 0;
  bool subscribes = false;
  MQTTAsync handle = nullptr;
  std::uint32_t sent = 0, acked = 0, received = 0;
};

/// One PUBLISH that waits for its PUBACK.
struct under_way {
  client* by;
  std::uint64_t sent_ns;
};

class load {
 public:
  load(std::string uri, unsigned clients, unsigned unacked, unsigned undelivered, unsigned payload);
  ~load();
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  /// Connects and subscribes the subscribers, and then connects the publishers, each of which
  /// begins to publish at once.
  bool set_up();
  /// Measures for a time and ends publishing.
  void measure(double warm_up_s, double seconds);
  /// Waits until every message is acknowledged and delivered.
  bool drain();
  [[nodiscard]] nlohmann::json report() const;
  [[nodiscard]] const std::string& wrong() const { return wrong_; }

 private:
  static int on_message(void* context, char* topic, int size, MQTTAsync_message* m);
  static void on_connected(void* context, MQTTAsync_successData* data);
  static void on_ready(void* context, MQTTAsync_successData* data);
  static void on_acked(void* context, MQTTAsync_successData* data);
  static void on_failed(void* context, MQTTAsync_failureData* data);
  static void on_publish_failed(void* context, MQTTAsync_failureData* data);
  static void on_lost(void* context, char* cause);
  bool connect(client& c);
  void publish(client& c);
  void publish_what_may_be(client& c);
  void report_counts(double seconds);
  void fail(const std::string& what); ///< `mutex_` is held
  template <class Holds> bool wait_until(Holds holds);
  void sleep_for(double seconds);

  std::string uri_;
  unsigned unacked_max_, undelivered_max_, payload_size_;
  std::vector<client> clients_; ///< the publishers, then as many subscribers
  std::mutex mutex_;            ///< protects everything below, and the counts of the clients
  std::condition_variable changed_;
  unsigned ready_ = 0;
  bool publishing_ = true, measuring_ = false;
  std::uint64_t sent_ = 0, acked_ = 0, delivered_ = 0, duplicates_ = 0;
  std::uint64_t acked_measured_ = 0, delivered_measured_ = 0;
  double seconds_ = 0, cpu_s_ = 0;
  chainring::app::latencies to_ack_, to_delivery_;
  std::string wrong_;
};

load::load(std::string uri, unsigned clients, unsigned unacked, unsigned undelivered,
           unsigned payload)
    : uri_(std::move(uri)), unacked_max_(unacked), undelivered_max_(undelivered),
      payload_size_(payload), clients_(2 * clients) {
  for (unsigned i = 0; i < clients_.size(); ++i) {
    clients_[i].of = this;
    clients_[i].number = i % clients;
    clients_[i].subscribes = i >= clients;
  }
}

load::~load() {
  for (client& c : clients_)
    if (c.handle != nullptr) MQTTAsync_destroy(&c.handle);
}

void load::fail(const std::string& what) {
  if (wrong_.empty()) wrong_ = what;
  changed_.notify_all();
}

template <class Holds> bool load::wait_until(Holds holds) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, hang, [&] { return holds() || !wrong_.empty(); }) &&
         wrong_.empty();
}

void load::sleep_for(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !wrong_.empty(); });
}

bool load::connect(client& c) {
  const std::string id = (c.subscribes ? "sub" : "pub") + std::to_string(c.number);
  if (MQTTAsync_create(&c.handle, uri_.c_str(), id.c_str(), MQTTCLIENT_PERSISTENCE_NONE, nullptr) !=
          MQTTASYNC_SUCCESS ||
      MQTTAsync_setCallbacks(c.handle, &c, on_lost, on_message, nullptr) != MQTTASYNC_SUCCESS)
    return false;
  MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer;
  o.cleansession = 0;
  o.keepAliveInterval = 60;
  o.maxInflight = static_cast<int>(std::max(unacked_max_, 1024u));
  o.onSuccess = c.subscribes ? on_connected : on_ready;
  o.onFailure = on_failed;
  o.context = &c;
  return MQTTAsync_connect(c.handle, &o) == MQTTASYNC_SUCCESS;
}

void load::on_connected(void* context, MQTTAsync_successData*) {
  client& c = *static_cast<client*>(context);
  MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
  o.onSuccess = on_ready;
  o.onFailure = on_failed;
  o.context = &c;
  const std::string topic = "load/" + std::to_string(c.number);
  if (MQTTAsync_subscribe(c.handle, topic.c_str(), 1, &o) != MQTTASYNC_SUCCESS)
    on_failed(context, nullptr);
}

void load::on_ready(void* context, MQTTAsync_successData*) {
  client& c = *static_cast<client*>(context);
  load& l = *c.of;
  const std::lock_guard lock(l.mutex_);
  ++l.ready_;
  l.changed_.notify_all();
  if (!c.subscribes) l.publish_what_may_be(c);
}

void load::on_failed(void* context, MQTTAsync_failureData* data) {
  const client& c = *static_cast<client*>(context);
  const std::lock_guard lock(c.of->mutex_);
  c.of->fail("client " + std::to_string(c.number) + " is refused: " +
             (data != nullptr && data->message != nullptr ? data->message : "no reason given"));
}

void load::on_publish_failed(void* context, MQTTAsync_failureData*) {
  const std::unique_ptr<under_way> u(static_cast<under_way*>(context));
  load& l = *u->by->of;
  const std::lock_guard lock(l.mutex_);
  l.fail("a PUBLISH of client " + std::to_string(u->by->number) + " failed");
}

void load::on_lost(void* context, char* cause) {
  const client& c = *static_cast<client*>(context);
  const std::lock_guard lock(c.of->mutex_);
  c.of->fail("the connection of client " + std::to_string(c.number) +
             " ended: " + (cause != nullptr ? cause : "no cause given"));
}

// `mutex_` is held, so that the messages of a client are handed over in the order of their numbers.
// Only callbacks call this, because they run inside the library's own locks: a thread that holds
// `mutex_` and waits for those could wait for a callback that waits for `mutex_`.
void load::publish_what_may_be(client& c) {
  const client& subscriber = clients_[clients_.size() / 2 + c.number];
  while (publishing_ && wrong_.empty() && c.sent - c.acked < unacked_max_ &&
         c.sent - subscriber.received < undelivered_max_)
    publish(c);
}

void load::publish(client& c) {
  std::vector<char> payload(payload_size_);
  auto u = std::make_unique<under_way>(under_way{&c, now_ns()});
  const stamp s{u->sent_ns, c.number, ++c.sent};
  std::memcpy(payload.data(), &s, sizeof s);
  ++sent_;
  MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
  o.onSuccess = on_acked;
  o.onFailure = on_publish_failed;
  o.context = u.get();
  const std::string topic = "load/" + std::to_string(c.number);
  if (MQTTAsync_send(c.handle, topic.c_str(), static_cast<int>(payload_size_), payload.data(), 1, 0,
                     &o) == MQTTASYNC_SUCCESS)
    u.release(); // on_acked() or on_publish_failed() owns it now
  else
    fail("libpaho-mqtt does not take a PUBLISH of client " + std::to_string(c.number));
}

void load::on_acked(void* context, MQTTAsync_successData*) {
  const std::unique_ptr<under_way> u(static_cast<under_way*>(context));
  client& c = *u->by;
  load& l = *c.of;
  const std::lock_guard lock(l.mutex_);
  ++l.acked_;
  ++c.acked;
  if (l.measuring_) {
    ++l.acked_measured_;
    l.to_ack_.record(now_ns() - u->sent_ns);
  }
  l.publish_what_may_be(c);
  if (!l.publishing_) l.changed_.notify_all();
}

int load::on_message(void* context, char* topic, int, MQTTAsync_message* m) {
  client& c = *static_cast<client*>(context);
  load& l = *c.of;
  {
    const std::lock_guard lock(l.mutex_);
    stamp s{};
    if (static_cast<std::size_t>(m->payloadlen) == l.payload_size_)
      std::memcpy(&s, m->payload, sizeof s);
    if (s.publisher != c.number || s.number > c.received + 1 || s.number == 0) {
      l.fail("subscriber " + std::to_string(c.number) + " was not sent message " +
             std::to_string(c.received + 1));
    } else if (s.number <= c.received) {
      ++l.duplicates_;
    } else {
      ++c.received;
      ++l.delivered_;
      if (l.measuring_) {
        ++l.delivered_measured_;
        l.to_delivery_.record(now_ns() - s.sent_ns);
      }
      l.publish_what_may_be(l.clients_[c.number]);
      if (!l.publishing_) l.changed_.notify_all();
    }
  }
  MQTTAsync_freeMessage(&m);
  MQTTAsync_free(topic);
  return 1;
}

bool load::set_up() {
  for (const bool subscribers : {true, false}) {
    for (client& c : clients_)
      if (c.subscribes == subscribers && !connect(c)) {
        const std::lock_guard lock(mutex_);
        fail("client " + std::to_string(c.number) + " cannot begin to connect to " + uri_);
        return false;
      }
    const std::size_t wanted = subscribers ? clients_.size() / 2 : clients_.size();
    if (!wait_until([&] { return ready_ == wanted; })) return false;
  }
  return true;
}

void load::measure(double warm_up_s, double seconds) {
  sleep_for(warm_up_s);
  {
    const std::lock_guard lock(mutex_);
    measuring_ = true;
  }
  const std::uint64_t begin = now_ns();
  const double cpu_before = cpu_seconds();
  report_counts(0);
  constexpr unsigned reports = 4;
  for (unsigned i = 1; i <= reports; ++i) {
    sleep_for(seconds / reports);
    report_counts(seconds / reports * i);
  }
  const std::lock_guard lock(mutex_);
  measuring_ = publishing_ = false;
  seconds_ = static_cast<double>(now_ns() - begin) * 1e-9;
  cpu_s_ = cpu_seconds() - cpu_before;
}

void load::report_counts(double seconds) {
  const std::lock_guard lock(mutex_);
  std::printf("%.1f s, publishing: sent %llu, acked %llu, delivered %llu\n", seconds,
              static_cast<unsigned long long>(sent_), static_cast<unsigned long long>(acked_),
              static_cast<unsigned long long>(delivered_));
  std::fflush(stdout);
}

bool load::drain() {
  return wait_until([&] { return acked_ == sent_ && delivered_ == acked_; });
}

nlohmann::json load::report() const {
  const auto of = [](const chainring::app::latencies& l) {
    return nlohmann::json{
        {"count", l.count()},         {"p50", l.quantile_us(0.5)},     {"p90", l.quantile_us(0.9)},
        {"p99", l.quantile_us(0.99)}, {"p99_9", l.quantile_us(0.999)}, {"max", l.max_us()}};
  };
  return {{"sent", sent_},
          {"acked", acked_},
          {"delivered", delivered_},
          {"duplicated", duplicates_},
          {"measured_s", seconds_},
          {"acked_per_s", static_cast<double>(acked_measured_) / seconds_},
          {"delivered_per_s", static_cast<double>(delivered_measured_) / seconds_},
          {"ack_latency_us", of(to_ack_)},
          {"delivery_latency_us", of(to_delivery_)},
          {"load_cpu_us_a_message",
           cpu_s_ * 1e6 / static_cast<double>(std::max<std::uint64_t>(acked_measured_, 1))}};
}

unsigned number(const char* text, unsigned low, unsigned high, const char* name) {
  char* end = nullptr;
  const unsigned long n = std::strtoul(text, &end, 10);
  if (*text == 0 || *end != 0 || n < low || n > high) {
    std::fprintf(stderr, "mqtt_load: %s '%s': expected %u to %u\n", name, text, low, high);
    std::exit(2);
  }
  return static_cast<unsigned>(n);
}

double seconds(const char* text, const char* name) {
  char* end = nullptr;
  const double s = std::strtod(text, &end);
  if (*text == 0 || *end != 0 || !(s >= 0.01 && s <= 600)) {
    std::fprintf(stderr, "mqtt_load: %s '%s': expected 0.01 to 600 seconds\n", name, text);
    std::exit(2);
  }
  return s;
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "mqtt_load URI CLIENTS UNACKED UNDELIVERED PAYLOAD_OCTETS WARM_UP_SECONDS "
                         "SECONDS\n");
    return 2;
  }
  load l(argv[1], number(argv[2], 1, 10000, "CLIENTS"), number(argv[3], 1, 1000, "UNACKED"),
         number(argv[4], 1, 1000, "UNDELIVERED"),
         number(argv[5], sizeof(stamp), 65536, "PAYLOAD_OCTETS"));
  const double warm_up_s = seconds(argv[6], "WARM_UP_SECONDS"),
               measured_s = seconds(argv[7], "SECONDS");
  bool good = l.set_up();
  if (good) {
    l.measure(warm_up_s, measured_s);
    good = l.drain();
  }
  if (!good) {
    std::fprintf(stderr, "mqtt_load: %s\n",
                 l.wrong().empty() ? "the server stopped answering" : l.wrong().c_str());
    std::fflush(stderr);
    std::_Exit(1); // callbacks may still come, so nothing is destroyed
  }
  std::printf("%s\n", l.report().dump().c_str());
  std::fflush(stdout);
  std::_Exit(0); // sessions and connections end with the server
}
