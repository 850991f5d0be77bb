// SPDX-License-Identifier: BSD-3-Clause
/// The interface through which a front end sends datagrams. It has addresses, which are opaque, and
/// no packets.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../base/client_address.h"
#include "../media/media.h"

namespace chainring::net {

using chainring::client_address;

/// The transport of one worker. The worker's thread calls it.
class transport {
 public:
  virtual ~transport() = default;
  /// Returns how many more datagrams to `to` can be begun now. begin() never fails while there is
  /// credit and the size is at most the listener's largest payload. The default is a transport
  /// without a limit.
  [[nodiscard]] virtual std::uint32_t credit(client_address to) const noexcept {
    (void)to;
    return std::numeric_limits<std::uint32_t>::max();
  }
  /// Returns how many more datagrams can be begun now, whatever addresses they have: credit() of
  /// any address is at least that, less one for each datagram that was begun since. 0 says nothing.
  [[nodiscard]] virtual std::uint32_t credit_of_any() const noexcept { return 0; }
  /// Returns the octets of the longest datagram that can be sent to `to`, which depend on the
  /// interface.
  [[nodiscard]] virtual std::size_t size_max(client_address to) const noexcept {
    (void)to;
    return std::numeric_limits<std::size_t>::max();
  }
  /// Returns the position in the line of datagrams to `to` that comes after all that were released
  /// so far. passed() says whether all of them have left. The default is a transport where no
  /// datagram waits.
  [[nodiscard]] virtual std::uint32_t position(client_address to) const noexcept {
    (void)to;
    return 0;
  }
  [[nodiscard]] virtual bool passed(client_address to, std::uint32_t position) const noexcept {
    (void)to;
    return static_cast<std::int32_t>(position) <= 0;
  }
  /// Returns room for one datagram of up to `size` octets to `to`, or an empty span when nothing
  /// can be sent now.
  virtual std::span<std::byte> begin(client_address to, std::size_t size) noexcept = 0;
  /// Sends the first `size` octets of the room that begin() returned last.
  virtual void commit(std::size_t size) noexcept = 0;
  /// Lets the datagrams that were committed since the last call leave once `mark` is persistent.
  virtual void release(mark_t mark) noexcept = 0;
};

/// Says up to when received datagrams have been handled. The worker's thread calls it.
class hearing {
 public:
  virtual ~hearing() = default;
  /// The worker has handled every datagram that was received from `from` before the returned TSC.
  /// 0 means that this cannot be known yet.
  [[nodiscard]] virtual std::uint64_t heard_until(client_address from) const noexcept = 0;
};

} // namespace chainring::net
