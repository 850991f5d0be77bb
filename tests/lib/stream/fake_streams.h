// SPDX-License-Identifier: BSD-3-Clause
/// Both ends of a layer over streams, without a port: what carries its connections, and the
/// protocol above. Each remembers what it was told.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "stream/byte_streams.h"

namespace chainring::stream {

/// Connections that take as many octets as there is room for.
class fake_streams final : public byte_streams {
 public:
  struct line {
    std::string sent;            ///< what was written
    std::size_t room = SIZE_MAX; ///< how much more write() takes
    bool wants_room = false;
    std::uint64_t consumed = 0;
    bool closed = false, aborted = false;
  };
  std::map<connection, line> lines;

  std::size_t write(connection c, std::span<const std::byte> octets) noexcept override {
    line& l = lines[c];
    const std::size_t n = std::min(octets.size(), l.room);
    l.sent.append(reinterpret_cast<const char*>(octets.data()), n);
    if (l.room != SIZE_MAX) l.room -= n;
    if (n < octets.size()) l.wants_room = true;
    return n;
  }
  void push(connection) noexcept override {}
  void consumed(connection c, std::uint32_t octets) noexcept override {
    lines[c].consumed += octets;
  }
  void close(connection c) noexcept override { lines[c].closed = true; }
  void abort(connection c) noexcept override { lines[c].aborted = true; }

  /// Makes room, and tells the layer if it waits for that.
  void make_room(byte_stream_handler& layer, connection c, std::size_t room) {
    line& l = lines[c];
    l.room = room;
    if (room == 0 || !l.wants_room) return;
    l.wants_room = false;
    layer.writable(c);
  }
};

/// A protocol that writes down what it hears.
class recording_above final : public byte_stream_handler {
 public:
  struct heard {
    std::string text;
    int accepted = 0, connected = 0, finished = 0, writable = 0, ended = 0;
    end_reason reason{};
  };
  std::map<connection, heard> all;
  std::function<void(connection, std::string_view)> on_received;

  void accepted(connection c, const net::endpoint&, std::uint16_t) noexcept override {
    all[c] = {};
    ++all[c].accepted;
  }
  void connected(connection c) noexcept override { ++all[c].connected; }
  void received(connection c, std::span<const std::byte> octets) noexcept override {
    const std::string_view text(reinterpret_cast<const char*>(octets.data()), octets.size());
    all[c].text += text;
    if (on_received) on_received(c, text);
  }
  void finished(connection c) noexcept override { ++all[c].finished; }
  void writable(connection c) noexcept override { ++all[c].writable; }
  void ended(connection c, end_reason reason) noexcept override {
    ++all[c].ended;
    all[c].reason = reason;
  }
};

inline std::span<const std::byte> octets_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

} // namespace chainring::stream
