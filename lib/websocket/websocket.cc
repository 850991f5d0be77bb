// SPDX-License-Identifier: BSD-3-Clause
// WebSocket between a protocol and its connections.
//
// A frame that leaves is announced with its size, and its payload follows as the connection takes
// it. While a part of a frame is still to come (`frame_left`), nothing else may leave, so control
// frames wait in wslay's queue until the frame is whole.
//
// wslay is given the octets that arrive frame by frame, and a control frame only when it is whole:
// of a close frame it checks the text in each piece as if the piece were all of it, so that its
// verdict would depend on how TCP has cut the stream.
#include "websocket/websocket.h"

#include <algorithm>
#include <array>
#include <wslay/wslay.h>

#include "websocket/upgrade.h"

namespace chainring::websocket {

namespace {

/// The longest frame that leaves. A connection that takes nothing more of a longer frame would keep
/// a pong back for longer.
constexpr std::size_t frame_size_max = 65535;

/// Writes the header of a whole binary message that no mask covers (RFC 6455, 5.2).
std::size_t write_header(std::array<std::byte, 4>& to, std::size_t payload) noexcept {
  to[0] = std::byte{0x82};
  if (payload < 126) {
    to[1] = static_cast<std::byte>(payload);
    return 2;
  }
  to[1] = std::byte{126};
  to[2] = static_cast<std::byte>(payload >> 8);
  to[3] = static_cast<std::byte>(payload & 0xff);
  return 4;
}

/// Of each frame that arrives, what wslay must be given at once: the header, and the payload of a
/// control frame.
class frame_start {
 public:
  /// Takes octets from the front of `octets` until this part is whole, and returns it then. Returns
  /// nothing while more has to arrive.
  std::span<const std::byte> take(std::span<const std::byte>& octets) noexcept {
    std::size_t whole = needed();
    while (size_ < whole && !octets.empty()) {
      const std::size_t n = std::min(whole - size_, octets.size());
      std::copy_n(octets.begin(), n, octets_.begin() + static_cast<std::ptrdiff_t>(size_));
      octets = octets.subspan(n);
      size_ += n;
      whole = needed();
    }
    if (size_ < whole) return {};
    size_ = 0;
    return std::span(octets_).first(whole);
  }
  /// Octets of payload that follow behind what take() has returned last.
  [[nodiscard]] std::uint64_t payload() const noexcept {
    if (control()) return 0;
    std::uint64_t n = short_length();
    if (const std::size_t more = more_length(); more != 0) {
      n = 0;
      for (std::size_t i = 0; i < more; ++i)
        n = n << 8 | std::to_integer<std::uint64_t>(octets_[2 + i]);
    }
    return n;
  }
  [[nodiscard]] bool control() const noexcept {
    return (octets_[0] & std::byte{0x08}) != std::byte{0} && short_length() < 126;
  }

 private:
  [[nodiscard]] std::size_t short_length() const noexcept {
    return std::to_integer<std::size_t>(octets_[1] & std::byte{0x7f});
  }
  [[nodiscard]] std::size_t more_length() const noexcept {
    return short_length() == 127 ? 8 : short_length() == 126 ? 2 : 0;
  }
  [[nodiscard]] std::size_t needed() const noexcept {
    if (size_ < 2) return 2;
    const std::size_t mask = (octets_[1] & std::byte{0x80}) != std::byte{0} ? 4 : 0;
    return 2 + more_length() + mask + (control() ? short_length() : 0);
  }

  std::array<std::byte, 2 + 4 + 125> octets_{};
  std::size_t size_ = 0;
};
} // namespace

struct layer::state {
  struct peer {
    enum class phase : std::uint8_t { head, open };
    state* owner = nullptr;
    stream::connection number = 0;
    const endpoint* at = nullptr;
    phase is = phase::head;
    bool receiving = false;   ///< received() is at work
    bool gone = false;        ///< it is closed below, and goes when received() returns
    bool above_waits = false; ///< write() took less than it was given
    bool text = false;        ///< it has sent a frame of text
    bool ends = false;        ///< it has sent its close frame, which is known above
    bool payload = false;     ///< the frame that is being received carries payload
    std::string head;         ///< the request, while it is not whole
    wslay_event_context_ptr frames = nullptr;
    frame_start start;                ///< of the frame that arrives
    std::uint64_t payload_left = 0;   ///< octets of that frame that are still to arrive
    std::span<const std::byte> input; ///< what wslay has not read yet
    stream::window_account window;
    std::vector<std::byte> pending; ///< what was not taken below, and goes before all else
    std::size_t frame_left = 0;     ///< octets of the frame that are still to be written
    ~peer() {
      if (frames != nullptr) wslay_event_context_free(frames);
    }
  };

  layer_options options;
  stream::byte_stream_handler* above = nullptr;
  stream::byte_streams* below = nullptr;
  std::vector<std::unique_ptr<peer>> peers; ///< by connection; null where it passes through
  layer_counters<statistic> count;

  [[nodiscard]] peer* of(stream::connection c) noexcept {
    peer* const p = c < peers.size() ? peers[c].get() : nullptr;
    return p != nullptr && !p->gone ? p : nullptr;
  }
  void forget(peer& p) noexcept {
    p.gone = true;
    if (!p.receiving) peers[p.number].reset();
  }
  /// Writes octets that must not be lost. What is not taken now waits in `pending`.
  void put(peer& p, std::span<const std::byte> octets) noexcept {
    if (p.pending.empty()) octets = octets.subspan(below->write(p.number, octets));
    p.pending.insert(p.pending.end(), octets.begin(), octets.end());
  }
  /// Writes what waits. Returns true when nothing waits any more.
  bool write_pending(peer& p) noexcept {
    if (p.pending.empty()) return true;
    const std::size_t n = below->write(p.number, p.pending);
    p.pending.erase(p.pending.begin(), p.pending.begin() + static_cast<std::ptrdiff_t>(n));
    if (p.pending.empty()) p.pending.shrink_to_fit();
    return p.pending.empty();
  }
  /// Writes the control frames that wait, where they may stand. The answer to a close frame waits
  /// until nothing more is to be written.
  void send_control(peer& p, bool closing = false) noexcept {
    if (p.is != peer::phase::open || p.frame_left != 0 || (p.ends && !closing) || !write_pending(p))
      return;
    if (wslay_event_want_write(p.frames) != 0) (void)wslay_event_send(p.frames);
  }
  void read_head(peer& p, std::span<const std::byte> octets) noexcept;
  void read_frames(peer& p, std::span<const std::byte> octets) noexcept;
  bool open(peer& p) noexcept;
  /// Ends the connection from here, and tells it above.
  void end(peer& p) noexcept {
    const stream::connection c = p.number;
    send_control(p);
    forget(p);
    below->close(c);
    above->ended(c, stream::end_reason::reset);
  }

  // What wslay calls.
  static ssize_t give(wslay_event_context_ptr ctx, std::uint8_t* to, std::size_t size, int,
                      void* self) noexcept {
    peer& p = *static_cast<peer*>(self);
    const std::size_t n = p.gone || p.text ? 0 : std::min(size, p.input.size());
    if (n == 0) {
      wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
      return -1;
    }
    std::copy_n(p.input.begin(), n, reinterpret_cast<std::byte*>(to));
    p.input = p.input.subspan(n);
    return static_cast<ssize_t>(n);
  }
  static ssize_t take(wslay_event_context_ptr, const std::uint8_t* octets, std::size_t size, int,
                      void* self) noexcept {
    peer& p = *static_cast<peer*>(self);
    p.owner->put(p, std::as_bytes(std::span(octets, size)));
    return static_cast<ssize_t>(size);
  }
  static void begin_frame(wslay_event_context_ptr ctx,
                          const wslay_event_on_frame_recv_start_arg* frame, void* self) noexcept {
    peer& p = *static_cast<peer*>(self);
    if (frame->opcode == WSLAY_TEXT_FRAME) {
      p.text = true;
      (void)wslay_event_queue_close(ctx, WSLAY_CODE_UNSUPPORTED_DATA, nullptr, 0);
      wslay_event_shutdown_read(ctx);
    }
    if (frame->opcode == WSLAY_PING) ++p.owner->count.pings;
    p.payload = wslay_is_ctrl_frame(frame->opcode) == 0;
  }
  static void take_payload(wslay_event_context_ptr, const wslay_event_on_frame_recv_chunk_arg* part,
                           void* self) noexcept {
    peer& p = *static_cast<peer*>(self);
    if (!p.payload || p.text || p.gone || part->data_length == 0) return;
    p.window.handed_on(part->data_length);
    p.owner->above->received(p.number, std::as_bytes(std::span(part->data, part->data_length)));
  }
};

// Makes a WebSocket of a connection whose request is accepted.
bool layer::state::open(peer& p) noexcept {
  static const wslay_event_callbacks calls{.recv_callback = give,
                                           .send_callback = take,
                                           .genmask_callback = nullptr,
                                           .on_frame_recv_start_callback = begin_frame,
                                           .on_frame_recv_chunk_callback = take_payload,
                                           .on_frame_recv_end_callback = nullptr,
                                           .on_msg_recv_callback = nullptr};
  if (wslay_event_context_server_init(&p.frames, &calls, &p) != 0) return false;
  wslay_event_config_set_no_buffering(p.frames, 1); // the payload is a stream
  wslay_event_config_set_max_recv_msg_length(p.frames, std::uint64_t{1} << 62);
  p.is = peer::phase::open;
  ++count.upgraded;
  return true;
}

void layer::state::read_head(peer& p, std::span<const std::byte> octets) noexcept {
  const std::size_t before = p.head.size();
  const std::size_t kept = std::min(octets.size(), options.head_size_max + 1 - before);
  p.head.append(reinterpret_cast<const char*>(octets.data()), kept);
  const upgrade found = read_upgrade(p.head, {.path = p.at->path,
                                              .subprotocol = options.subprotocol,
                                              .origins = options.origins,
                                              .head_size_max = options.head_size_max});
  if (found.status == upgrade_status::need_more) return;
  std::array<char, answer_size_max> text{};
  const std::size_t size = answer(text, found, options.subprotocol);
  const bool accepted = found.status == upgrade_status::accepted && size != 0 && open(p);
  if (found.status == upgrade_status::accepted && !accepted) return end(p); // there is no memory
  put(p, std::as_bytes(std::span(text).first(size)));
  if (!accepted) {
    ++count.refused;
    if (found.http_status == 404) ++count.refused_path;
    if (found.http_status == 403) ++count.refused_origin;
    if (found.http_status == 431) ++count.refused_size;
    return end(p);
  }
  below->push(p.number);
  const std::size_t used = found.head_size - before;
  p.head = {};
  if (used < octets.size()) read_frames(p, octets.subspan(used));
}

void layer::state::read_frames(peer& p, std::span<const std::byte> octets) noexcept {
  while (!octets.empty()) {
    bool control = false;
    if (p.payload_left != 0) {
      p.input = octets.first(std::min<std::uint64_t>(p.payload_left, octets.size()));
      octets = octets.subspan(p.input.size());
      p.payload_left -= p.input.size();
    } else {
      p.input = p.start.take(octets);
      if (p.input.empty()) break; // more of it has to arrive
      p.payload_left = p.start.payload();
      control = p.start.control();
    }
    const int status = wslay_event_recv(p.frames);
    p.input = {};
    if (p.gone || p.ends) return;
    if (p.text) {
      ++count.text;
      return end(p);
    }
    if (wslay_event_get_close_received(p.frames) != 0) {
      // Above may still have something to send. wslay has queued the answer, and close() sends it.
      p.ends = true;
      return above->finished(p.number);
    }
    if (status != 0 || wslay_event_get_read_enabled(p.frames) == 0) {
      ++count.malformed; // wslay has queued a close frame that says why
      return end(p);
    }
    if (control) send_control(p);
    if (wslay_event_get_queued_msg_count(p.frames) > options.control_frames_max) {
      ++count.unread;
      return end(p);
    }
  }
  below->push(p.number);
}

layer::layer(std::unique_ptr<state> s) : state_(std::move(s)) {}
layer::~layer() = default;

result<std::unique_ptr<layer>> layer::create(const layer_options& o,
                                             stream::byte_stream_handler& above) {
  const auto refuse = [](const std::string& why) { return error{errc::invalid_argument, why}; };
  if (o.head_size_max < 256 || o.head_size_max > 65536)
    return refuse("head_size_max " + std::to_string(o.head_size_max) +
                  ": expected 256 to 65536 octets");
  if (o.control_frames_max == 0) return refuse("control_frames_max 0: expected at least 1");
  if (o.connections_max == 0) return refuse("connections_max 0: expected at least 1");
  if (o.subprotocol.empty() || o.subprotocol.size() > 64)
    return refuse("subprotocol '" + o.subprotocol + "': expected 1 to 64 octets");
  for (const endpoint& e : o.endpoints)
    if (e.port == 0 || !e.path.starts_with('/') ||
        e.path.find_first_of(" ?#\r\n\t") != std::string::npos)
      return refuse("the path '" + e.path + "' of port " + std::to_string(e.port) +
                    ": expected a port and a path that begins with / and has no blank, ? or #");
  auto s = std::make_unique<state>();
  s->options = o;
  s->above = &above;
  s->peers.resize(o.connections_max);
  return std::unique_ptr<layer>(new layer(std::move(s)));
}

void layer::use(stream::byte_streams& below) noexcept {
  state_->below = &below;
}
const layer_counters<statistic>& layer::counters() const noexcept {
  return state_->count;
}
std::string_view layer::proved_name(stream::connection c) const noexcept {
  return state_->below->proved_name(c);
}

// --- what is above calls ------------------------------------------------------------------------

std::size_t layer::write(stream::connection c, std::span<const std::byte> octets) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p == nullptr) return s.below->write(c, octets);
  std::size_t taken = 0;
  while (taken < octets.size()) {
    if (p->frame_left == 0) {
      s.send_control(*p);
      if (!p->pending.empty() || p->is != state::peer::phase::open) break;
      p->frame_left = std::min(octets.size() - taken, frame_size_max);
      std::array<std::byte, 4> header;
      s.put(*p, std::span(header).first(write_header(header, p->frame_left)));
    }
    if (!s.write_pending(*p)) break;
    const std::size_t asked = std::min(octets.size() - taken, p->frame_left);
    const std::size_t n = s.below->write(c, octets.subspan(taken, asked));
    p->frame_left -= n;
    taken += n;
    if (n < asked) break;
  }
  p->above_waits = taken < octets.size();
  if (!p->above_waits) s.send_control(*p);
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
  if (state::peer* const p = s.of(c); p != nullptr) {
    if (p->is == state::peer::phase::open) {
      // This fails where the peer has sent its close frame first, which then is answered.
      (void)wslay_event_queue_close(p->frames, WSLAY_CODE_NORMAL_CLOSURE, nullptr, 0);
      s.send_control(*p, true);
    }
    s.forget(*p);
  }
  s.below->close(c);
}

void layer::abort(stream::connection c) noexcept {
  state& s = *state_;
  if (state::peer* const p = s.of(c); p != nullptr) s.forget(*p);
  s.below->abort(c);
}

// --- what is below calls ------------------------------------------------------------------------

void layer::accepted(stream::connection c, const net::endpoint& from,
                     std::uint16_t own_port) noexcept {
  state& s = *state_;
  const auto at = std::ranges::find(s.options.endpoints, own_port, &endpoint::port);
  if (at != s.options.endpoints.end() && c < s.peers.size()) {
    s.peers[c] = std::make_unique<state::peer>();
    s.peers[c]->owner = &s;
    s.peers[c]->number = c;
    s.peers[c]->at = &*at;
  }
  s.above->accepted(c, from, own_port);
}

void layer::connected(stream::connection c) noexcept {
  state_->above->connected(c);
}

void layer::received(stream::connection c, std::span<const std::byte> octets) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p == nullptr) return s.above->received(c, octets);
  p->window.received(octets.size());
  p->receiving = true;
  if (!p->ends) { // behind its close frame a client has nothing to say
    if (p->is == state::peer::phase::head)
      s.read_head(*p, octets);
    else
      s.read_frames(*p, octets);
  }
  p->receiving = false;
  if (p->gone) {
    s.peers[c].reset();
    return;
  }
  if (const std::uint32_t free = p->window.settle(); free != 0) s.below->consumed(c, free);
}

void layer::finished(stream::connection c) noexcept {
  state& s = *state_;
  if (const state::peer* const p = s.of(c); p != nullptr && p->ends) return; // it is known above
  s.above->finished(c);
}

void layer::writable(stream::connection c) noexcept {
  state& s = *state_;
  state::peer* const p = s.of(c);
  if (p != nullptr) {
    if (!s.write_pending(*p)) return;
    s.send_control(*p);
    s.below->push(c);
    if (!p->above_waits || !p->pending.empty()) return;
    p->above_waits = false;
  }
  s.above->writable(c);
}

void layer::ended(stream::connection c, stream::end_reason reason) noexcept {
  state& s = *state_;
  if (state::peer* const p = s.of(c); p != nullptr) s.forget(*p);
  s.above->ended(c, reason);
}

} // namespace chainring::websocket
