// SPDX-License-Identifier: BSD-3-Clause
// Two clients of libpaho-mqtt (Eclipse Paho for C) exchange messages through the broker: at each
// QoS, with properties in MQTT 5.0, and while one of them is away and its session stays. Prints
// what it has shown, or what is wrong, with status 1.
//
//   paho_client URI VERSION [CA_FILE]     URI tcp://HOST:PORT or ssl://HOST:PORT, VERSION 3 or 5
#include <cstdio>
#include <cstdlib>
#include <MQTTClient.h>
#include <string>
#include <vector>

namespace {

constexpr int hang_ms = 90'000; // this timeout only detects hangs
constexpr int quiet_ms = 300;   // so long nothing must come

[[noreturn]] void fail(const std::string& what) {
  std::printf("paho_client: %s\n", what.c_str());
  std::exit(1);
}
void expect(bool good, const std::string& what) {
  if (!good) fail(what);
}
void same(const std::string& what, long found, long wanted) {
  expect(found == wanted,
         what + " is " + std::to_string(found) + ", expected " + std::to_string(wanted));
}

struct received {
  std::string topic, text, note;
  int qos;
  bool operator==(const received&) const = default;
  [[nodiscard]] std::string name() const {
    return topic + " \"" + text.substr(0, text.find('x')) + "\" with " +
           std::to_string(text.size()) + " octets, note \"" + note + "\", QoS " +
           std::to_string(qos);
  }
};

class client {
 public:
  client(const std::string& uri, const std::string& id, bool v5, const char* ca)
      : v5_(v5), ca_(ca), id_(id) {
    MQTTClient_createOptions o = MQTTClient_createOptions_initializer;
    o.MQTTVersion = v5 ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    same("MQTTClient_create",
         MQTTClient_createWithOptions(&to_, uri.c_str(), id.c_str(), MQTTCLIENT_PERSISTENCE_NONE,
                                      nullptr, &o),
         MQTTCLIENT_SUCCESS);
  }
  ~client() { MQTTClient_destroy(&to_); }
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  /// Connects to a session that outlives the connection, or clears it. True when it was there.
  bool connect(bool clean) {
    MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer;
    if (v5_) o = MQTTClient_connectOptions_initializer5;
    (v5_ ? o.cleanstart : o.cleansession) = clean;
    o.MQTTVersion = v5_ ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    o.keepAliveInterval = 60;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    if (ca_ != nullptr) {
      tls.trustStore = ca_;
      tls.verify = 1;
      o.ssl = &tls;
    }
    if (v5_) {
      MQTTProperties p = MQTTProperties_initializer;
      MQTTProperty expiry{.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value = {}};
      expiry.value.integer4 = clean ? 0 : 600;
      MQTTProperties_add(&p, &expiry);
      const MQTTResponse r = MQTTClient_connect5(to_, &o, &p, nullptr);
      same(id_ + ": the reason of CONNACK", r.reasonCode, MQTTREASONCODE_SUCCESS);
      MQTTResponse_free(r);
      MQTTProperties_free(&p);
    } else {
      same(id_ + ": the return code of CONNACK", MQTTClient_connect(to_, &o), MQTTCLIENT_SUCCESS);
    }
    return o.returned.sessionPresent != 0;
  }
  void subscribe(const std::string& filter, int qos) {
    if (v5_) {
      MQTTSubscribe_options o = MQTTSubscribe_options_initializer;
      const MQTTResponse r = MQTTClient_subscribe5(to_, filter.c_str(), qos, &o, nullptr);
      same(id_ + ": the reason of SUBACK", r.reasonCode, qos);
      MQTTResponse_free(r);
    } else {
      same(id_ + ": SUBACK", MQTTClient_subscribe(to_, filter.c_str(), qos), MQTTCLIENT_SUCCESS);
    }
  }
  void unsubscribe(const std::string& filter) {
    if (v5_) {
      const MQTTResponse r = MQTTClient_unsubscribe5(to_, filter.c_str(), nullptr);
      same(id_ + ": the reason of UNSUBACK", r.reasonCode, MQTTREASONCODE_SUCCESS);
      MQTTResponse_free(r);
    } else {
      same(id_ + ": UNSUBACK", MQTTClient_unsubscribe(to_, filter.c_str()), MQTTCLIENT_SUCCESS);
    }
  }
  /// Publishes, and waits for the acknowledgement.
  void publish(const received& m, bool retained = false) {
    MQTTClient_message out = MQTTClient_message_initializer;
    std::string text = m.text;
    out.payload = text.data();
    out.payloadlen = static_cast<int>(text.size());
    out.qos = m.qos;
    out.retained = retained;
    MQTTClient_deliveryToken token = 0;
    if (v5_) {
      MQTTProperty note{.identifier = MQTTPROPERTY_CODE_USER_PROPERTY, .value = {}};
      std::string name = "note", value = m.note;
      note.value.data = {static_cast<int>(name.size()), name.data()};
      note.value.value = {static_cast<int>(value.size()), value.data()};
      MQTTProperties_add(&out.properties, &note);
      const MQTTResponse r = MQTTClient_publishMessage5(to_, m.topic.c_str(), &out, &token);
      same(id_ + ": the reason of PUBLISH", r.reasonCode, MQTTREASONCODE_SUCCESS);
      MQTTResponse_free(r);
      MQTTProperties_free(&out.properties);
    } else {
      same(id_ + ": PUBLISH", MQTTClient_publishMessage(to_, m.topic.c_str(), &out, &token),
           MQTTCLIENT_SUCCESS);
    }
    same(id_ + ": the acknowledgement", MQTTClient_waitForCompletion(to_, token, hang_ms),
         MQTTCLIENT_SUCCESS);
  }
  /// Takes `count` messages, behind which nothing follows.
  std::vector<received> take(std::size_t count) {
    std::vector<received> all;
    for (;;) {
      char* topic = nullptr;
      int size = 0;
      MQTTClient_message* m = nullptr;
      const int ms = all.size() < count ? hang_ms : quiet_ms;
      const int status = MQTTClient_receive(to_, &topic, &size, &m, static_cast<unsigned long>(ms));
      expect(status == MQTTCLIENT_SUCCESS || status == MQTTCLIENT_TOPICNAME_TRUNCATED,
             id_ + ": MQTTClient_receive returns " + std::to_string(status));
      if (m == nullptr) break;
      all.push_back(
          {.topic = topic,
           .text = {static_cast<const char*>(m->payload), static_cast<std::size_t>(m->payloadlen)},
           .note = note_of(*m),
           .qos = m->qos});
      expect(m->dup == 0, id_ + ": a message comes twice");
      MQTTClient_freeMessage(&m);
      MQTTClient_free(topic);
    }
    same(id_ + ": the number of messages", static_cast<long>(all.size()), static_cast<long>(count));
    return all;
  }
  void disconnect() {
    const int status = v5_ ? MQTTClient_disconnect5(to_, 1000, MQTTREASONCODE_SUCCESS, nullptr)
                           : MQTTClient_disconnect(to_, 1000);
    same(id_ + ": DISCONNECT", status, MQTTCLIENT_SUCCESS);
  }

 private:
  static std::string note_of(MQTTClient_message& m) {
    MQTTProperty* p = MQTTProperties_getProperty(&m.properties, MQTTPROPERTY_CODE_USER_PROPERTY);
    return p == nullptr
               ? ""
               : std::string(p->value.value.data, static_cast<std::size_t>(p->value.value.len));
  }
  MQTTClient to_{};
  bool v5_;
  const char* ca_;
  std::string id_;
};

/// Compares what came with what was published, in its order.
void same(const std::string& what, const std::vector<received>& found,
          const std::vector<received>& wanted) {
  for (std::size_t n = 0; n < wanted.size(); ++n)
    if (n >= found.size() || found[n] != wanted[n])
      fail(what + ": message " + std::to_string(n) + " is " +
           (n < found.size() ? found[n].name() : "missing") + ", expected " + wanted[n].name());
}

/// One message at each QoS in turn, of very different sizes.
std::vector<received> messages(int first, int count, bool v5) {
  std::vector<received> all;
  for (int n = first; n < first + count; ++n)
    all.push_back({.topic = "paho/" + std::to_string(n % 4),
                   .text = "message " + std::to_string(n) +
                           std::string(static_cast<std::size_t>(n * n * 7), 'x'),
                   .note = v5 ? "note " + std::to_string(n) : "",
                   .qos = n % 3});
  return all;
}

std::vector<received> of_qos(std::vector<received> all, int qos) {
  std::erase_if(all, [&](const received& m) { return m.qos != qos; });
  return all;
}

} // namespace

int main(int argc, char** argv) {
  if (argc < 3) fail("expected URI VERSION [CA_FILE]");
  const std::string uri = argv[1];
  const bool v5 = argv[2] == std::string("5");
  const char* ca = argc > 3 ? argv[3] : nullptr;
  MQTTClient_init_options init = MQTTClient_init_options_initializer;
  init.do_openssl_init = 1;
  MQTTClient_global_init(&init);

  client reader(uri, "paho-reader", v5, ca), writer(uri, "paho-writer", v5, ca);
  writer.connect(true);
  reader.connect(true);
  reader.disconnect(); // whatever there was is gone
  expect(!reader.connect(false), "a session is there that nobody made");
  reader.subscribe("paho/#", 2);
  const std::vector<received> at_once = messages(0, 30, v5);
  for (const received& m : at_once)
    writer.publish(m);
  same("what came at once", reader.take(at_once.size()), at_once);

  reader.disconnect();
  std::vector<received> later = messages(30, 12, v5);
  for (const received& m : later)
    writer.publish(m);
  const bool present = reader.connect(false);
  expect(present || v5, "the session is gone"); // Paho 1.3.12 does not tell in MQTT 5.0
  std::erase_if(later, [](const received& m) { return m.qos == 0; }); // nobody keeps these
  // Paho hands a message at QoS 2 on when its PUBREL has come, so each QoS has an order of its own.
  const std::vector<received> found = reader.take(later.size());
  for (const int qos : {1, 2})
    same("what came while the reader was away", of_qos(found, qos), of_qos(later, qos));

  reader.unsubscribe("paho/#");
  writer.publish({.topic = "paho/kept", .text = "kept", .note = v5 ? "n" : "", .qos = 1}, true);
  same("messages without a subscription", static_cast<long>(reader.take(0).size()), 0);
  reader.subscribe("paho/kept", 1);
  expect(reader.take(1).front().text == "kept", "the retained message is another one");
  writer.publish({.topic = "paho/kept", .text = "", .note = "", .qos = 1}, true);
  reader.disconnect();
  reader.connect(true);
  reader.disconnect();
  writer.disconnect();
  std::printf("Paho C, MQTT %s over %s: %zu messages\n", v5 ? "5.0" : "3.1.1",
              ca != nullptr ? "TLS" : "TCP", at_once.size() + later.size() + 1);
  return 0;
}
