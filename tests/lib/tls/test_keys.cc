// SPDX-License-Identifier: BSD-3-Clause
// Keys that clients share with the server, and the revocation of their certificates.
#include <cstring>

#include "tls/shared_keys.h"
#include "tls_fixture.h"

namespace chainring::tls {
namespace {

TEST(SharedKeys, AFileHasAnIdentityAndAKeyOnEachLine) {
  auto made = shared_keys::parse("# keys\n\na:000102030405060708090a0B0c0D0e0f\r\n"
                                 "a b/c:ffffffffffffffffffffffffffffffff",
                                 "file");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ((*made)->size(), 2u);
  ASSERT_NE((*made)->find("a"), nullptr);
  EXPECT_EQ(*(*made)->find("a"),
            (shared_keys::key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(*(*made)->find("a b/c"), shared_keys::key(16, 0xff));
  EXPECT_EQ((*made)->find("b"), nullptr);
  EXPECT_EQ((*made)->find(""), nullptr);
  EXPECT_EQ((*made)->find(std::string(1000, 'a')), nullptr);
}

TEST(SharedKeys, AWrongLineIsNamedAndItsKeyIsNotShown) {
  struct wrong {
    std::string line, words;
  };
  const std::string good(32, 'e'), longest(identity_size_max, 'i');
  EXPECT_TRUE(shared_keys::parse(longest + ":" + std::string(128, 'e'), "file"));
  for (const wrong& w :
       {wrong{"no key", "a colon"}, wrong{":" + good, "0 octets"},
        wrong{longest + "i:" + good, "129 octets"}, wrong{"a\tb:" + good, "control character"},
        wrong{"a:" + good + "e", "pairs of the digits"},
        wrong{"a:" + good + "eg", "pairs of the digits"}, wrong{"a:" + good.substr(2), "15 octets"},
        wrong{"a:" + std::string(130, 'e'), "65 octets"}, wrong{"a:", "0 octets"},
        wrong{"first:" + good, "given twice"}}) {
    auto made = shared_keys::parse("first:" + good + "\n" + w.line + "\n", "file");
    ASSERT_FALSE(made) << w.line;
    const std::string& said = made.error().message;
    EXPECT_TRUE(said.starts_with("file:2: ")) << said;
    EXPECT_NE(said.find(w.words), std::string::npos) << said;
    EXPECT_EQ(said.find("eeee"), std::string::npos) << said;
  }
  auto absent = shared_keys::read("/absent");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, errc::not_found);
}

/// Keys of this client, which all tests name in the same way.
class TlsKeys : public Tls {
 protected:
  static constexpr const char* right = "000102030405060708090a0b0c0d0e0f";
  static constexpr const char* other = "ffffffffffffffffffffffffffffffff";

  void SetUp() override {
    options.certificates = {server_files};
    use_keys("sensor-7:" + std::string(right) + "\nsensor-8:" + other + "\n");
    start();
  }
  void use_keys(const std::string& text) { options.keys = maker->write("keys", text); }

  /// Lets a client offer this key under this identity, by the way that clients have always used.
  static void share(client& k, const char* identity, const char* key) {
    static thread_local std::string name, octets;
    name = identity;
    octets.clear();
    for (std::size_t at = 0; at < std::strlen(key); at += 2)
      octets.push_back(static_cast<char>(std::stoi(std::string(key + at, 2), nullptr, 16)));
    SSL_CTX_set_psk_client_callback(
        k.context(), [](SSL*, const char*, char* to, unsigned room, unsigned char* out, unsigned) {
          std::snprintf(to, room, "%s", name.c_str());
          std::memcpy(out, octets.data(), octets.size());
          return static_cast<unsigned>(octets.size());
        });
    SSL_CTX_set_verify(k.context(), SSL_VERIFY_PEER, nullptr); // it trusts no certificate
  }
};

TEST_F(TlsKeys, AClientThatSharesAKeyIsKnownByItsIdentity) {
  for (const bool with_certificate : {true, false})
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      SCOPED_TRACE(version);
      if (!with_certificate) options.certificates.clear();
      load();
      client k(version);
      share(k, "sensor-7", right);
      connect(k, 1);
      ASSERT_TRUE(k.connected());
      EXPECT_EQ(tls->proved_name(1), "sensor-7");
      EXPECT_EQ(SSL_get0_peer_certificate(k.ssl()), nullptr);
      give(1, k.write("hello"));
      EXPECT_EQ(above.all[1].text, "hello");
      above.all.clear();
    }
  EXPECT_EQ(tls->counters().keyed.value(), 4u);
  EXPECT_EQ(tls->counters().certified.value(), 0u);
  EXPECT_EQ(tls->counters().resumed.value(), 0u);
}

TEST_F(TlsKeys, AWrongKeyAndAnUnknownIdentityAreRefused) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    client wrong(version), unknown(version);
    share(wrong, "sensor-7", other);
    connect(wrong, 1);
    EXPECT_FALSE(wrong.connected());
    EXPECT_TRUE(line(1).closed);
    share(unknown, "sensor-9", right);
    connect(unknown, 2);
    EXPECT_FALSE(unknown.connected());
    EXPECT_EQ(tls->proved_name(1), "");
    EXPECT_EQ(tls->proved_name(2), "");
  }
  EXPECT_EQ(tls->counters().keyed.value(), 0u);
}

TEST_F(TlsKeys, OnlyKeysWithForwardSecrecyAndAuthenticatedEncryptionAreTaken) {
  for (const char* weak : {"PSK-AES128-GCM-SHA256", "RSA-PSK-AES128-GCM-SHA256",
                           "DHE-PSK-AES128-CBC-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"}) {
    client k(TLS1_2_VERSION);
    ASSERT_EQ(SSL_CTX_set_cipher_list(k.context(), weak), 1) << weak;
    share(k, "sensor-7", right);
    connect(k, 1);
    EXPECT_FALSE(k.connected()) << weak;
  }
  for (const char* strong :
       {"DHE-PSK-AES128-GCM-SHA256", "DHE-PSK-AES256-GCM-SHA384", "ECDHE-PSK-CHACHA20-POLY1305"}) {
    client k(TLS1_2_VERSION);
    ASSERT_EQ(SSL_CTX_set_cipher_list(k.context(), strong), 1) << strong;
    share(k, "sensor-7", right);
    connect(k, 1);
    EXPECT_TRUE(k.connected()) << strong;
  }
}

TEST_F(TlsKeys, AClientWithoutAKeyIsServedByTheCertificateAndHasNoName) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    client k(version);
    connect(k, 1);
    ASSERT_TRUE(k.connected());
    EXPECT_NE(SSL_get0_peer_certificate(k.ssl()), nullptr);
    EXPECT_EQ(tls->proved_name(1), "");
  }
}

// A client of TLS 1.3 may name several keys and shows only that it has the one that the server
// chooses. The key that this client names goes with the hash SHA-256, and its ciphers with another
// one. So the server takes the key for unfit, and the handshake is by the certificate, or by the
// ticket of a session that proved nothing.
TEST_F(TlsKeys, TheNameIsThatOfTheKeyThatWasShownAndNotOfOneThatWasNamed) {
  static constexpr const char* ciphers = "TLS_AES_256_GCM_SHA384";
  client before(TLS1_3_VERSION);
  ASSERT_EQ(SSL_CTX_set_ciphersuites(before.context(), ciphers), 1);
  before.keep_sessions();
  connect(before, 1);
  ASSERT_NE(before.kept(), nullptr);
  for (const bool with_ticket : {false, true}) {
    client k(TLS1_3_VERSION);
    ASSERT_EQ(SSL_CTX_set_ciphersuites(k.context(), ciphers), 1);
    SSL_CTX_set_psk_use_session_callback(k.context(), [](SSL* ssl, const EVP_MD*,
                                                         const unsigned char** id,
                                                         std::size_t* size, SSL_SESSION** out) {
      static const unsigned char guess[32] = {1, 2, 3}, cipher[] = {0x13, 0x02};
      static const char name[] = "sensor-7";
      SSL_SESSION* const s = SSL_SESSION_new();
      SSL_SESSION_set1_master_key(s, guess, sizeof guess);
      SSL_SESSION_set_cipher(s, SSL_CIPHER_find(ssl, cipher));
      SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION);
      *id = reinterpret_cast<const unsigned char*>(name);
      *size = sizeof name - 1;
      *out = s;
      return 1;
    });
    if (with_ticket) k.offer(before.kept());
    connect(k, 2);
    EXPECT_TRUE(k.connected());
    EXPECT_EQ(SSL_session_reused(k.ssl()), with_ticket ? 1 : 0);
    EXPECT_EQ(tls->proved_name(2), "");
    EXPECT_EQ(tls->counters().keyed.value(), 0u);
  }
}

TEST_F(TlsKeys, AResumedSessionStillKnowsTheIdentityOfItsClient) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    client first(version);
    first.keep_sessions();
    share(first, "sensor-8", other);
    connect(first, 1);
    ASSERT_NE(first.kept(), nullptr);
    client second(version);
    second.offer(first.kept());
    if (version == TLS1_2_VERSION) share(second, "sensor-8", other);
    connect(second, 2);
    EXPECT_EQ(SSL_session_reused(second.ssl()), 1);
    EXPECT_EQ(tls->proved_name(2), "sensor-8");
  }
}

TEST_F(TlsKeys, AClientWhoseKeyIsGoneOrAnotherOneIsEndedWhenTheKeysAreReadAgain) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    use_keys("sensor-7:" + std::string(right) + "\nsensor-8:" + other + "\n");
    load();
    client stays(version), goes(version), none(version);
    share(stays, "sensor-7", right);
    connect(stays, 1);
    share(goes, "sensor-8", other);
    connect(goes, 2);
    connect(none, 3);
    ASSERT_TRUE(stays.connected() && goes.connected() && none.connected());
    above.all.clear();
    use_keys("sensor-7:" + std::string(right) +
             (version == TLS1_2_VERSION ? "\n" : "\nsensor-8:" + std::string(right) + "\n"));
    load();
    poll();
    EXPECT_FALSE(line(1).closed);
    EXPECT_TRUE(line(2).closed);
    EXPECT_EQ(above.all[2].ended, 1);
    EXPECT_FALSE(line(3).closed);
    poll();
  }
  EXPECT_EQ(tls->counters().keys_gone.value(), 2u);
}

TEST_F(Tls, ARevokedCertificateIsRefused) {
  const certificate_files good = maker->certificate("good"), revoked = maker->certificate("gone");
  options.trusted = maker->ca();
  options.clients = client_certificates::required;
  const auto connects = [&](int version, const certificate_files& files) {
    client k(version);
    k.use(files);
    connect(k, 1);
    return k.connected();
  };
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    options.revoked.clear();
    load();
    EXPECT_TRUE(connects(version, revoked));
    options.revoked = maker->revocations({revoked});
    load();
    EXPECT_TRUE(connects(version, good));
    EXPECT_FALSE(connects(version, revoked));
    EXPECT_EQ(tls->proved_name(1), "");
    options.revoked = maker->revocations({}, -60); // out of force
    load();
    EXPECT_FALSE(connects(version, good));
  }
}

} // namespace
} // namespace chainring::tls
