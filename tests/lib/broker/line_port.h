// SPDX-License-Identifier: BSD-3-Clause
/// A port that receives the lines of the line front end into data rooms in the broker's region, and
/// gives these away with what they hold. It stores round the seam, as a device does.
#pragma once
#include <array>
#include <cstring>
#include <rte_mbuf.h>
#include <string_view>

#include "base/assert.h"
#include "block/content_source.h"
#include "broker/broker.h"
#include "line_fixture.h"
#include "mbuf/receive_rooms.h"

namespace chainring::testing_line {

class line_port final : public content_source {
 public:
  static constexpr std::uint16_t headroom = 16, ports_count = 2;

  /// The front end on worker 0 receives from it, and its worker takes contents of `octets_min` or
  /// more.
  explicit line_port(test::line_server& server, std::size_t octets_min = 1)
      : server_(server), rooms_(server.broker().blocks(), 1) {
    std::size_t n = 0;
    for (const chain& c : rooms_.take_blocks(std::uint32_t{ports_count}))
      for (std::uint32_t b = 0; b < c.blocks && n < ports_.size(); ++b) {
        ports_[n].buf_addr = rooms_.store().address({c.first + b, 1});
        ports_[n++].data_off = headroom;
      }
    CHAINRING_ASSERT(n == ports_.size());
    server_.arrive_by([this](std::string_view line) { return receive(line); });
    server_.broker().worker(0).receive_from(this, octets_min);
  }
  ~line_port() override {
    server_.broker().worker(0).receive_from(nullptr, 0);
    server_.arrive_by(nullptr);
    for (const rte_mbuf& p : ports_)
      rooms_.release(static_cast<const std::byte*>(p.buf_addr));
  }
  line_port(const line_port&) = delete;
  line_port& operator=(const line_port&) = delete;

  [[nodiscard]] bool take(std::span<const std::byte> content, std::uint32_t front,
                          taken_content& out) noexcept override {
    const auto* const data = static_cast<const std::byte*>(at_->buf_addr) + headroom;
    const std::ptrdiff_t from = content.data() - data;
    if (!gives || from < 0 || std::size_t(from) + content.size() > at_->data_len ||
        headroom + from < front)
      return false;
    chain_piece piece;
    if (!rooms_.exchange(*at_, std::uint32_t(from), std::uint32_t(content.size()), piece))
      return false;
    out = {{piece.first, 1}, piece.offset};
    ++given;
    return true;
  }

  bool gives = true;
  unsigned given = 0;

 private:
  std::string_view receive(std::string_view line) {
    at_ = &ports_[next_++ % ports_.size()];
    CHAINRING_ASSERT(headroom + line.size() <= rooms_.room_bytes());
    auto* const to = static_cast<char*>(at_->buf_addr) + headroom;
    std::memcpy(to, line.data(), line.size());
    at_->data_len = static_cast<std::uint16_t>(line.size());
    return {to, line.size()};
  }

  test::line_server& server_;
  detail::receive_rooms rooms_;
  std::array<rte_mbuf, ports_count> ports_{};
  rte_mbuf* at_ = nullptr; ///< received last
  std::size_t next_ = 0;
};

} // namespace chainring::testing_line
