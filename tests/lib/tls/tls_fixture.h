// SPDX-License-Identifier: BSD-3-Clause
/// A layer of TLS between connections and a protocol that are both fakes, and clients of OpenSSL in
/// the same process.
#pragma once
#include <gtest/gtest.h>
#include <memory>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <thread>

#include "certificates.h"
#include "lib/stream/fake_streams.h"
#include "tls/tls.h"

namespace chainring::tls {

using stream::connection;
using stream::octets_of;

/// A client of OpenSSL over buffers in memory.
class client {
 public:
  explicit client(int version = 0) : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_security_level(context_, 0); // so that it offers what is weak, too
    if (version != 0) {
      SSL_CTX_set_min_proto_version(context_, version);
      SSL_CTX_set_max_proto_version(context_, version);
    }
  }
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    SSL_SESSION_free(offered_);
    SSL_SESSION_free(kept_);
  }
  SSL_CTX* context() { return context_; }
  SSL* ssl() {
    if (ssl_ == nullptr) {
      ssl_ = SSL_new(context_);
      in_ = BIO_new(BIO_s_mem());
      out_ = BIO_new(BIO_s_mem());
      SSL_set_bio(ssl_, in_, out_);
      SSL_set_connect_state(ssl_);
      if (offered_ != nullptr) SSL_set_session(ssl_, offered_);
    }
    return ssl_;
  }
  void use(const certificate_files& files) {
    ASSERT_EQ(SSL_CTX_use_certificate_chain_file(context_, files.chain.c_str()), 1);
    ASSERT_EQ(SSL_CTX_use_PrivateKey_file(context_, files.key.c_str(), SSL_FILETYPE_PEM), 1);
  }
  void offer(SSL_SESSION* session) {
    SSL_SESSION_up_ref(session);
    offered_ = session;
  }
  /// Keeps the sessions that the server gives.
  void keep_sessions() {
    SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_set_app_data(context_, this);
    SSL_CTX_sess_set_new_cb(context_, [](SSL* ssl, SSL_SESSION* s) {
      auto* const me = static_cast<client*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
      SSL_SESSION_free(std::exchange(me->kept_, s));
      return 1;
    });
  }
  [[nodiscard]] SSL_SESSION* kept() const { return kept_; }
  /// Goes on with the handshake and reads. Returns what it sends.
  std::string step(std::string_view arrived) {
    (void)ssl();
    if (!arrived.empty()) BIO_write(in_, arrived.data(), static_cast<int>(arrived.size()));
    ERR_clear_error();
    if (SSL_is_init_finished(ssl_) == 0) {
      const int n = SSL_do_handshake(ssl_);
      failed |= n != 1 && SSL_get_error(ssl_, n) != SSL_ERROR_WANT_READ;
    }
    if (SSL_is_init_finished(ssl_) == 1) {
      std::array<char, 16384> part;
      int n = 0;
      while ((n = SSL_read(ssl_, part.data(), part.size())) > 0)
        text.append(part.data(), static_cast<std::size_t>(n));
      const int why = SSL_get_error(ssl_, n);
      closed |= why == SSL_ERROR_ZERO_RETURN;
      failed |= why != SSL_ERROR_WANT_READ && why != SSL_ERROR_ZERO_RETURN;
    }
    return output();
  }
  std::string write(std::string_view octets) {
    EXPECT_EQ(SSL_write(ssl(), octets.data(), static_cast<int>(octets.size())),
              static_cast<int>(octets.size()));
    return output();
  }
  std::string output() {
    std::string made(static_cast<std::size_t>(BIO_pending(out_)), '\0');
    if (!made.empty()) BIO_read(out_, made.data(), static_cast<int>(made.size()));
    return made;
  }
  bool connected() { return SSL_is_init_finished(ssl()) == 1 && !failed; }

  std::string text; ///< what was received
  bool failed = false, closed = false;

 private:
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  BIO *in_ = nullptr, *out_ = nullptr;
  SSL_SESSION *offered_ = nullptr, *kept_ = nullptr;
};

class Tls : public testing::Test {
 protected:
  inline static std::unique_ptr<certificate_maker> maker;
  inline static certificate_files server_files;
  static void SetUpTestSuite() {
    maker = std::make_unique<certificate_maker>();
    server_files = maker->certificate("server", "DNS:server.example");
  }
  static void TearDownTestSuite() { maker.reset(); }

  static constexpr std::uint16_t mqtts = 8883, wss = 8081;
  stream::fake_streams below;
  stream::recording_above above;
  std::unique_ptr<layer> tls;
  std::unique_ptr<stream::helper_crew> crew; // destroyed before the layer
  std::uint64_t clock = 1;
  context_options options;

  void SetUp() override {
    options.certificates = {server_files};
    start();
  }
  void start(std::uint32_t jobs_max = 16, std::uint32_t connections_max = 64) {
    crew.reset();
    tls.reset();
    auto helpers = stream::helper_crew::create(2, jobs_max);
    ASSERT_TRUE(helpers) << helpers.error().message;
    crew = std::move(*helpers);
    layer_options o;
    o.endpoints = {{.port = mqtts, .websocket = false}, {.port = wss, .websocket = true}};
    o.connections_max = connections_max;
    auto made = layer::create(o, *crew, above);
    ASSERT_TRUE(made) << made.error().message;
    tls = std::move(*made);
    tls->use(below);
    load();
  }
  void load() {
    auto made = context::load(options);
    ASSERT_TRUE(made) << made.error().message;
    tls->use(*made);
  }
  void poll() {
    (void)crew->collect();
    (void)tls->poll(clock);
  }
  /// Waits until no helper has anything.
  void drain() {
    for (int i = 0; i < 6'000'000; ++i) { // about a minute
      poll();
      if (crew->under_way() == 0) {
        poll();
        if (crew->under_way() == 0) return;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(10));
    }
    FAIL() << "a helper hangs";
  }
  stream::fake_streams::line& line(connection c) { return below.lines[c]; }
  std::string taken(connection c) { return std::exchange(line(c).sent, {}); }
  void give(connection c, std::string_view octets, std::size_t piece = SIZE_MAX) {
    while (!octets.empty() && !line(c).closed) {
      tls->received(c, octets_of(octets.substr(0, piece)));
      octets.remove_prefix(std::min(piece, octets.size()));
    }
  }
  /// Lets both sides speak until neither has anything to say.
  void talk(client& k, connection c, std::size_t piece = SIZE_MAX) {
    for (int quiet = 0; quiet < 2;) {
      const std::string said = k.step(taken(c));
      give(c, said, piece);
      drain();
      quiet = said.empty() && line(c).sent.empty() ? quiet + 1 : 0;
    }
  }
  void connect(client& k, connection c, std::uint16_t port = mqtts, std::size_t piece = SIZE_MAX) {
    below.lines.erase(c);
    tls->accepted(c, {}, port);
    talk(k, c, piece);
  }
};

} // namespace chainring::tls
