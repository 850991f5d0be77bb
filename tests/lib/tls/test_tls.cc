// SPDX-License-Identifier: BSD-3-Clause
// TLS against clients of OpenSSL in the same process. What a server must refuse is tried here in
// the manner of testssl.
#include <malloc.h>
#include <random>
#include <rte_cycles.h>

#include "tls_fixture.h"

namespace chainring::tls {
namespace {

TEST_F(Tls, AConnectionAtAnotherPortPassesThrough) {
  tls->accepted(1, {}, 1883);
  give(1, "plain");
  EXPECT_EQ(above.all[1].text, "plain");
  EXPECT_EQ(tls->write(1, octets_of("answer")), 6u);
  EXPECT_EQ(line(1).sent, "answer");
  tls->close(1);
  EXPECT_TRUE(line(1).closed);
}

TEST_F(Tls, OctetsGoBothWaysInEitherVersion) {
  connection c = 0;
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
    for (const std::size_t piece : {SIZE_MAX, std::size_t{1}, std::size_t{700}}) {
      client k(version);
      connect(k, ++c, mqtts, piece);
      ASSERT_TRUE(k.connected()) << version << " in pieces of " << piece;
      const std::string long_text(100'000, 'l');
      std::string records = k.write("hello");
      records += k.write(long_text);
      give(c, records, piece);
      EXPECT_TRUE(above.all[c].text == "hello" + long_text);
      const std::string answer(50'000, 'a');
      EXPECT_EQ(tls->write(c, octets_of(answer)), answer.size());
      k.step(taken(c));
      EXPECT_TRUE(k.text == answer);
      tls->close(c);
      k.step(taken(c));
      EXPECT_TRUE(k.closed) << "there was no close_notify";
      EXPECT_TRUE(line(c).closed);
    }
  EXPECT_EQ(tls->counters().handshakes.value(), 6u);
  EXPECT_EQ(tls->counters().tls_1_3.value(), 3u);
  EXPECT_EQ(tls->counters().handshakes_failed.value(), 0u);
}

TEST_F(Tls, RecordsThatFollowTheHandshakeInTheSameSegmentAreRead) {
  client k(TLS1_3_VERSION);
  tls->accepted(1, {}, mqtts);
  give(1, k.step({}));
  drain();
  const std::string last = k.step(taken(1)); // the client has finished, and may write
  ASSERT_TRUE(k.connected());
  const std::string early = k.write("early");
  give(1, last + early);
  give(1, k.write(" and later")); // while a helper may have the connection
  drain();
  EXPECT_EQ(above.all[1].text, "early and later");
}

TEST_F(Tls, AnEndThatArrivesDuringTheHandshakeIsToldBehindWhatWasSent) {
  client k(TLS1_3_VERSION);
  tls->accepted(1, {}, mqtts);
  give(1, k.step({}));
  drain();
  const std::string last = k.step(taken(1)), record = k.write("all that I have to say");
  int finished_at = -1;
  above.on_received = [&](connection c, std::string_view) { finished_at = above.all[c].finished; };
  give(1, last + record);
  tls->finished(1);
  drain();
  EXPECT_EQ(above.all[1].text, "all that I have to say");
  EXPECT_EQ(finished_at, 0);
  EXPECT_EQ(above.all[1].finished, 1);
  EXPECT_EQ(tls->counters().handshakes.value(), 1u);
}

TEST_F(Tls, OldVersionsAreRefused) {
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    client k(version);
    connect(k, 1);
    EXPECT_FALSE(k.connected());
    EXPECT_TRUE(line(1).closed);
    EXPECT_EQ(above.all[1].ended, 1);
  }
  options.version_min = protocol_version::tls_1_3;
  load();
  client older(TLS1_2_VERSION), newer(TLS1_3_VERSION);
  connect(older, 1);
  EXPECT_FALSE(older.connected());
  connect(newer, 2);
  EXPECT_TRUE(newer.connected());
  EXPECT_EQ(tls->counters().handshakes_failed.value(), 3u);
}

TEST_F(Tls, WeakCiphersAreRefused) {
  for (const char* cipher :
       {"AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256",
        "aNULL", "eNULL", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM8",
        "PSK-AES128-GCM-SHA256"}) {
    client k(TLS1_2_VERSION);
    if (SSL_CTX_set_cipher_list(k.context(), cipher) != 1) continue; // this OpenSSL has it not
    connect(k, 1);
    EXPECT_FALSE(k.connected()) << cipher;
    EXPECT_TRUE(line(1).closed) << cipher;
  }
  for (const char* cipher : {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}) {
    client k(TLS1_2_VERSION);
    ASSERT_EQ(SSL_CTX_set_cipher_list(k.context(), cipher), 1);
    connect(k, 1);
    EXPECT_TRUE(k.connected()) << cipher;
  }
}

TEST_F(Tls, RenegotiationIsRefusedAndCompressionIsNot) {
  client k(TLS1_2_VERSION);
  connect(k, 1);
  ASSERT_TRUE(k.connected());
  EXPECT_EQ(SSL_get_current_compression(k.ssl()), nullptr);
  EXPECT_EQ(SSL_get_secure_renegotiation_support(k.ssl()), 1);
  ASSERT_EQ(SSL_renegotiate(k.ssl()), 1);
  (void)SSL_do_handshake(k.ssl());
  give(1, k.output());
  drain();
  k.step(taken(1));
  EXPECT_EQ(tls->counters().handshakes.value(), 1u);
  EXPECT_TRUE(k.failed) << "the client was not told that there is no renegotiation";
  EXPECT_EQ(crew->under_way(), 0u);
}

TEST_F(Tls, ANewKeyOfTls13IsTaken) {
  client k(TLS1_3_VERSION);
  connect(k, 1);
  ASSERT_EQ(SSL_key_update(k.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  give(1, k.write("with the new key"));
  EXPECT_EQ(above.all[1].text, "with the new key");
  EXPECT_EQ(tls->write(1, octets_of("answer")), 6u);
  k.step(taken(1));
  EXPECT_EQ(k.text, "answer");
}

TEST_F(Tls, ATicketResumesASessionUntilTheContextIsAnother) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    client first(version);
    first.keep_sessions();
    connect(first, 1);
    ASSERT_NE(first.kept(), nullptr);
    const std::uint64_t before = tls->counters().resumed.value();
    client second(version);
    second.offer(first.kept());
    connect(second, 2);
    EXPECT_TRUE(second.connected());
    EXPECT_EQ(SSL_session_reused(second.ssl()), 1);
    EXPECT_EQ(tls->counters().resumed.value(), before + 1);
    load();
    client third(version);
    third.offer(first.kept());
    connect(third, 3);
    EXPECT_TRUE(third.connected());
    EXPECT_EQ(SSL_session_reused(third.ssl()), 0);
  }
}

TEST_F(Tls, AlpnAgreesOnWhatIsSpokenAndRefusesOtherProtocols) {
  const auto offer = [&](std::string_view list, std::uint16_t port, bool works,
                         std::string_view agreed) {
    client k;
    SSL_CTX_set_alpn_protos(k.context(), reinterpret_cast<const unsigned char*>(list.data()),
                            static_cast<unsigned>(list.size()));
    connect(k, 1, port);
    EXPECT_EQ(k.connected(), works) << list;
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(k.ssl(), &name, &size);
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(name), size), agreed) << list;
  };
  offer("", mqtts, true, "");
  offer("\x04mqtt", mqtts, true, "mqtt");
  offer("\x02h2\x04mqtt", mqtts, true, "mqtt");
  offer("\x08http/1.1", mqtts, false, "");
  offer("\x02h2\x08http/1.1", wss, true, "http/1.1");
  offer("\x04mqtt", wss, false, "");
}

TEST_F(Tls, TheNameThatIsAskedForChoosesTheCertificate) {
  options.certificates.push_back(
      maker->certificate("second", "DNS:second.example,DNS:*.wild.example"));
  load();
  for (const auto& [asked, name] : {std::pair{"", "server"},
                                    {"server.example", "server"},
                                    {"second.example", "second"},
                                    {"a.wild.example", "second"},
                                    {"unknown.example", "server"}}) {
    client k;
    if (*asked != '\0') SSL_set_tlsext_host_name(k.ssl(), asked);
    connect(k, 1);
    ASSERT_TRUE(k.connected()) << asked;
    char found[64] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(k.ssl())),
                              NID_commonName, found, sizeof found);
    EXPECT_STREQ(found, name) << asked;
  }
}

TEST_F(Tls, AClientsCertificateIsVerifiedAndItsNameIsKnownAbove) {
  const certificate_files good = maker->certificate("sensor-7"),
                          foreign = maker->certificate("sensor-7", "", true);
  options.trusted = maker->ca();
  for (const auto demand : {client_certificates::optional, client_certificates::required})
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      options.clients = demand;
      load();
      client with(version), without(version), wrong(version);
      with.use(good);
      connect(with, 1);
      EXPECT_TRUE(with.connected());
      EXPECT_EQ(tls->proved_name(1), "sensor-7");
      connect(without, 2);
      EXPECT_EQ(without.connected(), demand == client_certificates::optional);
      EXPECT_EQ(tls->proved_name(2), "");
      wrong.use(foreign);
      connect(wrong, 3);
      EXPECT_FALSE(wrong.connected());
      EXPECT_TRUE(line(3).closed);
      EXPECT_EQ(tls->proved_name(3), "");
    }
  EXPECT_EQ(tls->counters().certified.value(), 4u);
}

TEST_F(Tls, AResumedSessionStillKnowsTheNameOfItsClient) {
  options.trusted = maker->ca();
  options.clients = client_certificates::required;
  load();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    client first(version);
    first.use(maker->certificate("sensor-8"));
    first.keep_sessions();
    connect(first, 1);
    ASSERT_NE(first.kept(), nullptr);
    client second(version);
    second.offer(first.kept());
    connect(second, 2);
    EXPECT_EQ(SSL_session_reused(second.ssl()), 1);
    EXPECT_EQ(tls->proved_name(2), "sensor-8");
  }
}

TEST_F(Tls, GarbageAndDamagedHandshakesEndOnlyTheirOwnConnection) {
  client honest;
  connect(honest, 1);
  std::mt19937 random(5);
  std::string hello;
  {
    client k;
    hello = k.step({});
  }
  for (int run = 0; run < 300; ++run) {
    std::string octets = hello;
    if (run % 3 == 0) { // pure garbage
      for (char& c : octets)
        c = static_cast<char>(random());
    } else {
      for (int i = 0; i < 1 + run % 5; ++i)
        octets[random() % octets.size()] = static_cast<char>(random());
      if (run % 3 == 1) octets.resize(random() % octets.size());
    }
    below.lines.erase(2);
    tls->accepted(2, {}, mqtts);
    give(2, octets, 1 + random() % 300);
    drain();
    tls->finished(2);
    if (above.all[2].ended == 0) tls->abort(2);
  }
  for (const std::string& wrong :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\x10\x0c\0\4MQTT\4\2\0\0\0\0", 14)}) {
    below.lines.erase(2);
    tls->accepted(2, {}, mqtts);
    give(2, wrong);
    drain();
    EXPECT_EQ(above.all[2].ended, 1);
  }
  give(1, honest.write("still here"));
  EXPECT_EQ(above.all[1].text, "still here");
}

TEST_F(Tls, ADamagedRecordEndsItsConnection) {
  client k;
  connect(k, 1);
  std::string record = k.write("secret");
  record.back() = static_cast<char>(record.back() ^ 1);
  give(1, record);
  EXPECT_EQ(above.all[1].text, "");
  EXPECT_EQ(above.all[1].ended, 1);
  EXPECT_TRUE(line(1).closed);
  EXPECT_EQ(tls->counters().malformed.value(), 1u);
}

TEST_F(Tls, ACloseNotifyOfTheClientIsTheEndOfItsOctets) {
  client k;
  connect(k, 1);
  (void)SSL_shutdown(k.ssl());
  give(1, k.output());
  EXPECT_EQ(above.all[1].finished, 1);
  tls->finished(1);
  EXPECT_EQ(above.all[1].finished, 1) << "told twice";
}

TEST_F(Tls, TheWindowStaysShutForWhatTheHandshakeHasNotTaken) {
  client k;
  tls->accepted(1, {}, mqtts);
  const std::string hello = k.step({});
  give(1, hello);
  EXPECT_EQ(line(1).consumed, 0u);
  drain();
  EXPECT_EQ(line(1).consumed, hello.size());
  talk(k, 1);
  line(1).consumed = 0;
  const std::string record = k.write(std::string(1000, 'x'));
  give(1, record);
  EXPECT_EQ(line(1).consumed, record.size() - 1000);
  tls->consumed(1, 1000);
  EXPECT_EQ(line(1).consumed, record.size());
}

TEST_F(Tls, HandshakesBeyondTheCrewWaitAndAllAreCompleted) {
  start(1, 64);
  std::vector<std::unique_ptr<client>> all;
  for (connection c = 0; c < 40; ++c) {
    all.push_back(std::make_unique<client>());
    tls->accepted(c, {}, mqtts);
    give(c, all.back()->step({}));
  }
  EXPECT_LE(crew->under_way(), 1u);
  EXPECT_GE(tls->counters().handshakes_waited.value(), 38u);
  // Some end while they wait, or while a helper has them.
  for (connection c = 0; c < 10; ++c)
    tls->abort(c);
  for (connection c = 10; c < 40; ++c)
    for (int i = 0; i < 3; ++i)
      talk(*all[c], c);
  for (connection c = 10; c < 40; ++c)
    EXPECT_TRUE(all[c]->connected()) << c;
  EXPECT_EQ(tls->counters().handshakes.value(), 30u);
}

TEST_F(Tls, AHostThatBeginsManyHandshakesWaitsForItself) {
  constexpr connection many = 200, one = many;
  start(256, many + 1);
  const net::endpoint crowd{.address = net::ip_address(0x0a000001), .port = 1},
      single{.address = net::ip_address(0x0a000002), .port = 1};
  std::vector<std::unique_ptr<client>> clients;
  for (connection c = 0; c <= one; ++c) {
    clients.push_back(std::make_unique<client>());
    tls->accepted(c, c == one ? single : crowd, mqtts);
    give(c, clients.back()->step({}));
  }
  // The helpers have at most four of the crowd, and then it is the turn of the other host.
  std::size_t before = 0;
  for (int i = 0; i < 6'000'000 && line(one).sent.empty(); ++i) { // about a minute
    poll();
    before = 0;
    for (connection c = 0; c < many; ++c)
      before += line(c).sent.empty() ? 0 : 1;
    std::this_thread::sleep_for(std::chrono::microseconds(10));
  }
  EXPECT_FALSE(line(one).sent.empty());
  EXPECT_LE(before, 10u);
  talk(*clients[one], one);
  EXPECT_TRUE(clients[one]->connected());
}

TEST_F(Tls, AConnectionThatEndsInLineLeavesIt) {
  constexpr connection many = 100;
  start(256, many);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<client>> clients;
    for (connection c = 0; c < many; ++c) {
      below.lines.erase(c);
      clients.push_back(std::make_unique<client>());
      tls->accepted(c, {}, mqtts);
      give(c, clients.back()->step({}));
    }
    for (connection c = 0; c < many; ++c)
      if (c % 2 == 0) tls->ended(c, stream::end_reason::reset);
    drain();
    for (connection c = 1; c < many; c += 2) {
      talk(*clients[c], c);
      EXPECT_TRUE(clients[c]->connected());
      tls->abort(c);
    }
  }
  EXPECT_EQ(tls->counters().handshakes.value(), 3u * many / 2);
}

/// A layer whose connections begin here, toward the layer of a test.
class TlsClients : public Tls {
 protected:
  stream::fake_streams own_below;
  stream::recording_above own_above;
  std::unique_ptr<layer> mine;
  std::unique_ptr<stream::helper_crew> own_crew; // destroyed before the layer

  void open(const std::string& trusted) {
    own_crew.reset();
    own_crew = stream::helper_crew::create(1, 16).value();
    mine = layer::create({}, *own_crew, own_above).value();
    mine->use(own_below);
    auto context = context::for_clients(trusted);
    ASSERT_TRUE(context) << context.error().message;
    mine->use(*context);
  }
  /// Carries octets both ways until both sides are silent.
  void carry(connection c) {
    for (int quiet = 0; quiet < 3;) {
      for (int i = 0; i < 6'000'000 && own_crew->under_way() != 0; ++i) { // about a minute
        (void)own_crew->collect();
        std::this_thread::sleep_for(std::chrono::microseconds(10));
      }
      (void)mine->poll(clock);
      const std::string there = std::exchange(own_below.lines[c].sent, {});
      if (!there.empty() && !line(c).closed) give(c, there);
      drain();
      const std::string back = taken(c);
      if (!back.empty() && !own_below.lines[c].closed) mine->received(c, octets_of(back));
      quiet = there.empty() && back.empty() && own_crew->under_way() == 0 ? quiet + 1 : 0;
    }
  }
  void begin(connection c, std::uint16_t port = mqtts) {
    tls->accepted(c, {}, port);
    mine->connected(c);
    carry(c);
  }
};

TEST_F(TlsClients, AConnectionThatBeginsHereIsKnownAboveBehindItsHandshake) {
  for (const protocol_version version : {protocol_version::tls_1_2, protocol_version::tls_1_3}) {
    options.version_min = version;
    load();
    open(maker->ca());
    begin(1);
    EXPECT_EQ(own_above.all[1].connected, 1);
    EXPECT_EQ(mine->proved_name(1), "server");
    EXPECT_EQ(mine->write(1, octets_of("a question")), 10u);
    carry(1);
    EXPECT_EQ(above.all[1].text, "a question");
    EXPECT_EQ(tls->write(1, octets_of("an answer")), 9u);
    carry(1);
    EXPECT_EQ(own_above.all[1].text, "an answer");
    mine->close(1);
    carry(1);
    EXPECT_EQ(above.all[1].finished, 1);
    tls->close(1);
    own_above.all.clear();
    above.all.clear();
    below.lines.clear();
    own_below.lines.clear();
  }
}

TEST_F(TlsClients, AServerOfAnotherAuthorityOrWithoutMqttIsRefused) {
  open(maker->path("other_ca.pem"));
  begin(1);
  EXPECT_EQ(own_above.all[1].connected, 0);
  EXPECT_EQ(own_above.all[1].ended, 1);
  open(maker->ca());
  begin(2, wss); // which speaks HTTP
  EXPECT_EQ(own_above.all[2].connected, 0);
  EXPECT_EQ(own_above.all[2].ended, 1);
  EXPECT_FALSE(context::for_clients("/absent"));
}

TEST_F(Tls, AConnectionThatBeginsHereWithoutAContextForItPassesThrough) {
  tls->connected(5);
  EXPECT_EQ(above.all[5].connected, 1);
  EXPECT_EQ(tls->write(5, octets_of("plain")), 5u);
  EXPECT_EQ(line(5).sent, "plain");
}

TEST_F(Tls, ANumberMayBeUsedAgainWhileAHelperHasItsFormerConnection) {
  for (int i = 0; i < 50; ++i) {
    client former, next;
    tls->accepted(1, {}, mqtts);
    give(1, former.step({}));
    tls->abort(1);
    connect(next, 1);
    ASSERT_TRUE(next.connected());
    tls->abort(1);
  }
  drain();
}

TEST_F(Tls, ASlowConnectionGetsEveryOctetInOrderAlsoBehindItsClose) {
  std::mt19937 random(3);
  client k;
  connect(k, 1);
  std::string all;
  for (int i = 0; i < 60'000; ++i)
    all += static_cast<char>(random());
  line(1).room = 0;
  std::size_t done = 0;
  int waits = 0;
  while (done < all.size()) {
    const std::size_t asked = std::min<std::size_t>(1 + random() % 40'000, all.size() - done);
    const int told = above.all[1].writable;
    const std::size_t n = tls->write(1, octets_of(std::string_view(all).substr(done, asked)));
    done += n;
    if (n == asked) continue;
    ++waits;
    while (above.all[1].writable == told) {
      below.make_room(*tls, 1, 1 + random() % 5000);
      k.step(taken(1));
    }
  }
  EXPECT_GT(waits, 2);
  tls->close(1); // with a part of a record still to be sent
  for (int i = 0; i < 100 && !line(1).closed; ++i)
    below.make_room(*tls, 1, 1000);
  k.step(taken(1));
  EXPECT_TRUE(line(1).closed);
  EXPECT_TRUE(k.text == all);
  EXPECT_TRUE(k.closed);
}

TEST_F(Tls, AConnectionThatTakesNothingBeforeItsEndIsReset) {
  client k;
  connect(k, 1);
  line(1).room = 0;
  EXPECT_NE(tls->write(1, octets_of("never read")), 0u);
  tls->close(1);
  poll();
  EXPECT_FALSE(line(1).closed || line(1).aborted);
  clock += 11 * rte_get_tsc_hz() + 1;
  poll();
  EXPECT_TRUE(line(1).aborted);
  EXPECT_EQ(tls->counters().closes_timed_out.value(), 1u);
}

TEST_F(Tls, AnIdleConnectionKeepsNoBuffers) {
  const char* const asked = std::getenv("CHAINRING_CONNECTIONS");
  const auto many = static_cast<connection>(asked == nullptr ? 500 : std::atoi(asked));
  start(16, many);
  for (connection c = 0; c < many; ++c) {
    client k(TLS1_3_VERSION);
    connect(k, c);
    ASSERT_TRUE(k.connected());
  }
  below.lines.clear();
  const std::size_t with = mallinfo2().uordblks;
  for (connection c = 0; c < many; ++c)
    tls->abort(c);
  for (connection c = 0; c < many; ++c)
    EXPECT_TRUE(line(c).aborted);
  below.lines.clear();
  if (with == 0) return; // the allocator of a sanitizer counts nothing, and finds what is left over
  const std::size_t each = (with - mallinfo2().uordblks) / many;
  std::printf("each of %u idle TLS 1.3 connections takes %zu octets\n", many, each);
  EXPECT_GT(each, 1000u);
  EXPECT_LT(each, 20'000u) << "a buffer of a record has 16 KiB";
}

} // namespace
} // namespace chainring::tls

#include "support/eal_main.h"
