// SPDX-License-Identifier: BSD-3-Clause
// TLS between a protocol and its connections.
//
// OpenSSL reads from the octets that were received, and writes into a buffer that is sent as soon
// as its call returns, both through a BIO of our own. So it keeps no octets but those of a record
// that is not whole, and an idle connection has no buffers.
//
// While a helper has a connection (`with_helper`), the worker does nothing with it but to collect
// what arrives. A connection that ends meanwhile is kept in `left_behind` until the helper is done.
#include "tls/tls.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <rte_cycles.h>
#include <string>
#include <utility>

#include "base/latest.h"
#include "stream/host_turns.h"
#include "tls/context_state.h"

namespace chainring::tls {

namespace {

constexpr std::size_t record_size_max = 16384; ///< of the content

/// What the BIO of a connection reads and writes.
struct channel {
  std::span<const std::byte> in;
  std::vector<std::byte>* out = nullptr;
};

int channel_read(BIO* bio, char* to, int size) noexcept {
  auto& c = *static_cast<channel*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (size <= 0) return 0;
  const std::size_t n = std::min(c.in.size(), static_cast<std::size_t>(size));
  if (n == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  std::memcpy(to, c.in.data(), n);
  c.in = c.in.subspan(n);
  return static_cast<int>(n);
}

int channel_write(BIO* bio, const char* from, int size) noexcept {
  auto& c = *static_cast<channel*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (size <= 0) return 0;
  const auto* const first = reinterpret_cast<const std::byte*>(from);
  c.out->insert(c.out->end(), first, first + size);
  return size;
}

long channel_control(BIO*, int what, long, void*) noexcept {
  return what == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD* channel_method() noexcept {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* const m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "chainring");
    if (m != nullptr) {
      BIO_meth_set_read(m, channel_read);
      BIO_meth_set_write(m, channel_write);
      BIO_meth_set_ctrl(m, channel_control);
    }
    return m;
  }();
  return method;
}

/// The common name of the certificate that a client has proved to have, or nothing.
std::string name_of_client(SSL* ssl) {
  X509* const certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) return {};
  X509_NAME* const subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  unsigned char* text = nullptr;
  const int size =
      ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  std::string name;
  if (size > 0) name.assign(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  // A name with a NUL in it could read like another one.
  return name.find('\0') == std::string::npos ? name : std::string();
}

} // namespace

struct layer::state {
  struct peer final : stream::helper_crew::job {
    enum class phase : std::uint8_t { handshake, open, closing };
    enum class step : std::uint8_t { needs_more, done, failed };

    state* owner = nullptr;
    stream::connection number = 0;
    std::uint64_t host = 0; ///< of the client (net::host_of)
    stream::host_turns<stream::connection>::place place;
    handshake_of kind;
    phase is = phase::handshake;
    bool begun_here = false;  ///< this side is the client
    bool with_helper = false; ///< a helper has it
    bool in_line = false;     ///< its handshake waits for a helper, at `place`
    bool receiving = false;   ///< its records are being read
    bool gone = false;        ///< it is forgotten when what is at work with it returns
    bool above_waits = false; ///< write() took less than it was given
    bool end_told = false;    ///< finished() was told above
    bool end_waits = false;   ///< it is to be told when the present step is done
    std::shared_ptr<const context> uses;
    std::unique_ptr<SSL, free_ssl> ssl;
    channel octets;
    std::vector<std::byte> arrived;    ///< during the handshake, for its next step
    std::vector<std::byte> step_input; ///< what the present step reads
    std::vector<std::byte> step_output;
    step result = step::needs_more;
    stream::window_account window;
    std::vector<std::byte> pending; ///< records that were not taken below
    std::uint64_t closed_tsc = 0;
    std::string name;   ///< what the client has proved to be called
    bool keyed = false; ///< by a shared key

    void run() noexcept override;
    void finish() noexcept override;
  };

  layer_options options;
  stream::helper_crew* crew = nullptr;
  stream::byte_stream_handler* above = nullptr;
  stream::byte_streams* below = nullptr;
  std::vector<std::unique_ptr<peer>> peers; ///< by connection; null where it passes through
  std::vector<std::unique_ptr<peer>> left_behind;
  stream::host_turns<stream::connection> line; ///< connections that wait for a helper
  std::size_t with_helpers = 0;
  std::vector<stream::connection> closing; ///< connections that are closed when they are written
  std::vector<std::byte> records;          ///< what OpenSSL has written in the present call
  std::array<std::byte, record_size_max> content;
  std::uint64_t now_tsc = 0;
  layer_counters<statistic> count;

  latest<context> contexts;
  std::shared_ptr<const context> judged_by; ///< the keys of all connections were looked up in it

  [[nodiscard]] peer* of(stream::connection c) const noexcept {
    peer* const p = c < peers.size() ? peers[c].get() : nullptr;
    return p != nullptr && !p->gone ? p : nullptr;
  }
  void forget(peer& p) noexcept {
    p.gone = true;
    if (std::exchange(p.in_line, false)) line.remove(p.place);
    if (p.receiving) return;
    std::unique_ptr<peer> mine = std::move(peers[p.number]);
    if (p.with_helper) left_behind.push_back(std::move(mine));
  }
  /// Writes what OpenSSL has written. What is not taken now waits in `pending`.
  void send(peer& p, std::vector<std::byte>& written) noexcept {
    std::span<const std::byte> rest(written);
    if (p.pending.empty() && !rest.empty()) rest = rest.subspan(below->write(p.number, rest));
    p.pending.insert(p.pending.end(), rest.begin(), rest.end());
    written.clear();
  }
  [[nodiscard]] bool write_pending(peer& p) noexcept {
    if (p.pending.empty()) return true;
    const std::size_t n = below->write(p.number, p.pending);
    p.pending.erase(p.pending.begin(), p.pending.begin() + static_cast<std::ptrdiff_t>(n));
    if (p.pending.empty()) p.pending.shrink_to_fit();
    return p.pending.empty();
  }
  /// Ends the connection from here, behind what was written, and tells it above.
  void end(peer& p) noexcept {
    const stream::connection c = p.number;
    (void)write_pending(p);
    forget(p);
    below->close(c);
    above->ended(c, stream::end_reason::reset);
  }
  /// Whether the key that the client has shown is still its key.
  [[nodiscard]] bool key_holds(const peer& p) noexcept {
    const auto& newest = contexts.take();
    return !p.keyed || newest == p.uses || newest->same_key(*p.uses, p.name);
  }
  void end_those_without_keys() noexcept {
    for (const auto& p : peers)
      if (p != nullptr && !p->gone && p->is == peer::phase::open && !key_holds(*p)) {
        ++count.keys_gone;
        end(*p);
      }
  }
  /// Tells above that the peer sends nothing more, if that had to wait.
  void tell_end(stream::connection c) noexcept {
    peer* const p = of(c);
    if (p == nullptr || !p->end_waits || p->end_told) return;
    p->end_told = true;
    above->finished(c);
  }
  void begin_step(peer& p) noexcept;
  bool give_to_helpers() noexcept;
  void read_records(peer& p, std::span<const std::byte> octets) noexcept;
  void close_now(peer& p) noexcept;
  void settle(peer& p) noexcept {
    if (const std::uint32_t free = p.window.settle(); free != 0) below->consumed(p.number, free);
  }
};

// --- handshakes ---------------------------------------------------------------------------------

// Puts the connection in line for a helper.
void layer::state::begin_step(peer& p) noexcept {
  if (p.with_helper || p.in_line) return;
  p.in_line = true;
  p.place = line.add(p.host, p.number);
  (void)give_to_helpers();
  if (p.in_line) ++count.handshakes_waited;
}

// Gives what has arrived for the connections whose turn it is to helpers. Two for each helper, so
// that none waits for the next round of the worker, and not more, because there they are in one
// line. Returns true when there was anything to do.
bool layer::state::give_to_helpers() noexcept {
  bool any = false;
  while (line.size() != 0 && with_helpers < 2 * std::size_t{crew->threads()} && crew->has_room()) {
    peer& p = *peers[line.take()];
    std::swap(p.step_input, p.arrived);
    p.in_line = false;
    p.with_helper = any = true;
    ++with_helpers;
    (void)crew->submit(p); // there is room
  }
  return any;
}

// On a helper, which has the connection for itself.
void layer::state::peer::run() noexcept {
  result = step::failed;
  ERR_clear_error();
  if (ssl == nullptr) {
    if (uses == nullptr) return; // no context was ever given
    ssl.reset(SSL_new(uses->internals().certificates.front().get()));
    BIO* const bio = ssl == nullptr ? nullptr : BIO_new(channel_method());
    if (bio == nullptr) return;
    BIO_set_data(bio, &octets);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl.get(), bio, bio);
    kind.keys = uses->internals().keys.get();
    SSL_set_app_data(ssl.get(), &kind);
    if (begun_here)
      SSL_set_connect_state(ssl.get());
    else
      SSL_set_accept_state(ssl.get());
  }
  octets.in = step_input;
  octets.out = &step_output;
  const int status = SSL_do_handshake(ssl.get());
  if (status == 1) {
    result = step::done;
    name = identity_of_key(ssl.get());
    keyed = !name.empty();
    if (!keyed) name = name_of_client(ssl.get());
  } else if (SSL_get_error(ssl.get(), status) == SSL_ERROR_WANT_READ) {
    result = step::needs_more;
  }
}

// On the worker, which has the connection again.
void layer::state::peer::finish() noexcept {
  state& s = *owner;
  with_helper = false;
  --s.with_helpers;
  if (gone) {
    const auto mine =
        std::ranges::find_if(s.left_behind, [&](const auto& p) { return p.get() == this; });
    std::swap(*mine, s.left_behind.back());
    s.left_behind.pop_back();
    return;
  }
  s.send(*this, step_output);
  s.below->push(number);
  switch (result) {
  case step::failed: // what was sent last is the alert that says why
    ++s.count.handshakes_failed;
    return s.end(*this);
  case step::needs_more:
    step_input.clear();
    if (!arrived.empty()) return s.begin_step(*this);
    s.settle(*this);
    return s.tell_end(number);
  case step::done:
    break;
  }
  is = phase::open;
  ++s.count.handshakes;
  const bool tls_1_3 = SSL_version(ssl.get()) == TLS1_3_VERSION;
  // For OpenSSL a key of TLS 1.3 is a session, which is resumed.
  if (SSL_session_reused(ssl.get()) == 1 && !(keyed && tls_1_3)) ++s.count.resumed;
  if (tls_1_3) ++s.count.tls_1_3;
  if (keyed)
    ++s.count.keyed;
  else if (!name.empty())
    ++s.count.certified;
  if (!s.key_holds(*this)) { // the keys were read again during the handshake
    ++s.count.keys_gone;
    return s.end(*this);
  }
  // Records may have followed in the same octets, and since.
  std::vector<std::byte> rest(octets.in.begin(), octets.in.end());
  rest.insert(rest.end(), arrived.begin(), arrived.end());
  step_input = {};
  step_output = {};
  arrived = {};
  const stream::connection c = number;
  if (begun_here) s.above->connected(c);
  if (s.of(c) != this) return; // above has ended it
  s.read_records(*this, rest); // after which this may be gone
  s.tell_end(c);
}

// --- records ------------------------------------------------------------------------------------

void layer::state::read_records(peer& p, std::span<const std::byte> octets) noexcept {
  bool failed = false;
  p.receiving = true;
  p.octets = {octets, &records};
  while (!p.gone && !p.end_told) {
    ERR_clear_error();
    const int n = SSL_read(p.ssl.get(), content.data(), static_cast<int>(content.size()));
    send(p, records); // an alert, or the answer to a new key
    if (n > 0) {
      p.window.handed_on(static_cast<std::size_t>(n));
      above->received(p.number, std::span(content).first(static_cast<std::size_t>(n)));
      continue;
    }
    const int why = SSL_get_error(p.ssl.get(), n);
    if (why == SSL_ERROR_ZERO_RETURN) {
      p.end_told = true;
      above->finished(p.number);
    }
    failed = why != SSL_ERROR_WANT_READ && why != SSL_ERROR_ZERO_RETURN;
    break;
  }
  p.octets.in = {};
  p.receiving = false;
  if (p.gone) return forget(p);
  if (failed) {
    ++count.malformed;
    return end(p);
  }
  settle(p);
  below->push(p.number);
}

void layer::state::close_now(peer& p) noexcept {
  const stream::connection c = p.number;
  if (p.ssl != nullptr && !p.with_helper && SSL_is_init_finished(p.ssl.get()) == 1) {
    ERR_clear_error();
    p.octets.out = &records;
    (void)SSL_shutdown(p.ssl.get());
    send(p, records);
  }
  forget(p);
  below->close(c);
}

// --- the interface ------------------------------------------------------------------------------

layer::layer(std::unique_ptr<state> s) : state_(std::move(s)) {}
layer::~layer() = default;

result<std::unique_ptr<layer>> layer::create(const layer_options& o, stream::helper_crew& crew,
                                             stream::byte_stream_handler& above) {
  if (o.connections_max == 0)
    return error{errc::invalid_argument, "connections_max 0: expected at least 1"};
  if (channel_method() == nullptr)
    return error{errc::no_space, "there is no memory for the BIO of OpenSSL"};
  auto s = std::make_unique<state>();
  s->options = o;
  s->crew = &crew;
  s->above = &above;
  s->peers.resize(o.connections_max);
  return std::unique_ptr<layer>(new layer(std::move(s)));
}

void layer::use(stream::byte_streams& below) noexcept {
  state_->below = &below;
}

void layer::use(std::shared_ptr<const context> newest) {
  state_->contexts.offer(std::move(newest));
}

const layer_counters<statistic>& layer::counters() const noexcept {
  return state_->count;
}

bool layer::poll(std::uint64_t now_tsc) noexcept {
  state& s = *state_;
  s.now_tsc = now_tsc;
  bool any = false;
  if (const auto& newest = s.contexts.take(); newest != s.judged_by) [[unlikely]] {
    s.judged_by = newest;
    s.end_those_without_keys();
    any = true;
  }
  any |= s.give_to_helpers();
  const std::uint64_t allowed = s.options.close_timeout_s * rte_get_tsc_hz();
  std::erase_if(s.closing, [&](stream::connection c) {
    state::peer* const p = s.of(c);
    if (p == nullptr || p->is != state::peer::phase::closing) return true;
    if (now_tsc - p->closed_tsc < allowed) return false;
    ++s.count.closes_timed_out;
    s.forget(*p);
    s.below->abort(c);
    return true;
  });
  return any;
}

std::size_t layer::write(stream::connection c, std::span<const std::byte> octets) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p == nullptr) return s.below->write(c, octets);
  std::size_t taken = 0;
  while (taken < octets.size() && p->is == state::peer::phase::open && s.write_pending(*p)) {
    const std::size_t n = std::min(octets.size() - taken, record_size_max);
    ERR_clear_error();
    p->octets.out = &s.records;
    // The BIO takes everything, so this fails only when OpenSSL has no memory.
    if (SSL_write(p->ssl.get(), octets.data() + taken, static_cast<int>(n)) <= 0) break;
    taken += n;
    s.send(*p, s.records);
  }
  p->above_waits = taken < octets.size();
  return taken;
}

void layer::push(stream::connection c) noexcept {
  state_->below->push(c);
}

void layer::consumed(stream::connection c, std::uint32_t octets) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p != nullptr) octets = p->window.consumed(octets);
  if (octets != 0) s.below->consumed(c, octets);
}

void layer::close(stream::connection c) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p == nullptr) return s.below->close(c);
  if (p->is == state::peer::phase::open && !s.write_pending(*p)) {
    p->is = state::peer::phase::closing;
    p->closed_tsc = s.now_tsc;
    s.closing.push_back(c);
    return;
  }
  s.close_now(*p);
}

void layer::abort(stream::connection c) noexcept {
  state& s = *state_;
  if (state::peer* const p = s.of(c); p != nullptr) s.forget(*p);
  s.below->abort(c);
}

std::string_view layer::proved_name(stream::connection c) const noexcept {
  const state::peer* const p = state_->of(c);
  return p == nullptr ? state_->below->proved_name(c) : std::string_view(p->name);
}

void layer::accepted(stream::connection c, const net::endpoint& from,
                     std::uint16_t own_port) noexcept {
  state& s = *state_;
  const auto at = std::ranges::find(s.options.endpoints, own_port, &endpoint::port);
  if (at != s.options.endpoints.end() && c < s.peers.size()) {
    s.peers[c] = std::make_unique<state::peer>();
    s.peers[c]->owner = &s;
    s.peers[c]->number = c;
    s.peers[c]->host = net::host_of(from.address);
    s.peers[c]->kind.websocket = at->websocket;
    s.peers[c]->uses = s.contexts.take();
  }
  s.above->accepted(c, from, own_port);
}

void layer::connected(stream::connection c) noexcept {
  state& s = *state_;
  const auto& newest = s.contexts.take();
  if (newest == nullptr || !newest->internals().of_clients || c >= s.peers.size())
    return s.above->connected(c);
  s.peers[c] = std::make_unique<state::peer>();
  s.peers[c]->owner = &s;
  s.peers[c]->number = c;
  s.peers[c]->begun_here = true;
  s.peers[c]->uses = newest;
  s.begin_step(*s.peers[c]);
}

void layer::received(stream::connection c, std::span<const std::byte> octets) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p == nullptr) return s.above->received(c, octets);
  p->window.received(octets.size());
  switch (p->is) {
  case state::peer::phase::handshake:
    p->arrived.insert(p->arrived.end(), octets.begin(), octets.end());
    return s.begin_step(*p);
  case state::peer::phase::open:
    return s.read_records(*p, octets);
  case state::peer::phase::closing:
    return s.settle(*p);
  }
}

void layer::finished(stream::connection c) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p != nullptr && (p->end_told || p->is == state::peer::phase::closing)) return;
  if (p != nullptr && (p->with_helper || p->in_line)) {
    p->end_waits = true; // what it has sent before is read first
    return;
  }
  if (p != nullptr) p->end_told = true;
  s.above->finished(c);
}

void layer::writable(stream::connection c) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p != nullptr) {
    const bool all = s.write_pending(*p);
    s.below->push(c);
    if (!all) return;
    if (p->is == state::peer::phase::closing) return s.close_now(*p);
    if (!p->above_waits) return;
    p->above_waits = false;
  }
  s.above->writable(c);
}

void layer::ended(stream::connection c, stream::end_reason reason) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  const bool told = p == nullptr || p->is != state::peer::phase::closing;
  if (p != nullptr) s.forget(*p);
  if (told) s.above->ended(c, reason);
}

} // namespace chainring::tls
