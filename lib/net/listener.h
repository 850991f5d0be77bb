// SPDX-License-Identifier: BSD-3-Clause
/// The datagram path of all workers: it polls ports, hands datagrams over to the worker of their
/// client, and sends answers.
///
/// Each receive queue of a port is polled by one worker, its reader. Queue q of interface i belongs
/// to worker (i + q) modulo the number of workers, so a worker polls at most one queue of a port. A
/// reader hands over datagrams of other workers' clients, a burst at a time, through a ring of one
/// producer and one consumer. There is one ring for each reader, home worker and interface, so that
/// a worker that cannot answer on one interface still takes what came in on the others.
///
/// **Sending.** A worker has a transmit queue of its own on each port that has as many queues as
/// there are workers. On other ports several workers share a queue, and a lock.
///
/// **Time of reception.** Each datagram carries the TSC at which it was read from its port, however
/// long it then waited in a ring. heard_until() says up to what time a worker has handled
/// everything that came in on an interface. Code that judges a client silent must compare with that
/// time and not with the clock, because the datagram that ends the silence may still wait in the
/// port.
///
/// **Frames.** Every frame that waits anywhere has a place in a bounded buffer, and create()
/// refuses a pool that is smaller than the sum of these places. So there is a frame for every
/// datagram that has credit.
///
/// **Groups.** An interface that has joined a multicast group (interface_config::multicast_group)
/// hands its datagrams over like all others, with `to_group` set. A worker sends to the group
/// through its datagram_transport, with the key of endpoint{group, port, interface id} as address.
///
/// Thread-safety: a listener belongs to the thread of its worker; any thread may read its counters.
/// Nothing is allocated after create().
///
///     listener& mine = group->worker(n);
///     bool any = mine.poll(sink);          // call it in every round
///     any |= handler.end_burst();          // the answers go to mine.out()
///     any |= mine.send(medium, rte_rdtsc());
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../base/spin_lock.h"
#include "datagram_transport.h"
#include "link.h"
#include "sender_set.h"

struct rte_ring;

namespace chainring::net {

/// The receiver of a worker's datagrams. It is called on the worker's thread.
class datagram_sink {
 public:
  virtual ~datagram_sink() = default;
  /// Returns the number of the worker to which this datagram belongs. It is not asked when there is
  /// one worker only. A sink of several workers overrides this call or the next one; without that
  /// all datagrams belong to worker 0.
  virtual unsigned home_of(client_address, std::span<const std::byte>) noexcept { return 0; }
  /// Writes for each datagram of a burst the worker to which it belongs, up to the first one that
  /// may belong elsewhere when an earlier one has been handled. Returns how many it wrote, which is
  /// not 0. It is asked for the rest again when these have been handled. A sink for which a call
  /// for each datagram costs too much overrides it, and may leave a hint for receive_burst() in
  /// each datagram.
  virtual std::size_t place(std::span<received_datagram> burst, std::uint8_t* homes) noexcept;
  /// Handles a datagram. `to_group` says that it was sent to a multicast group or broadcast, and
  /// not to this host alone. `received_tsc` is when it was read from its port. The payload is valid
  /// during the call only.
  virtual void receive(client_address from, bool to_group, std::span<const std::byte> payload,
                       std::uint64_t received_tsc) noexcept = 0;
  /// Handles a burst of datagrams, in order. Their payloads are valid during the call only, and
  /// their frames stay the listener's. A sink for which a call for each datagram costs too much
  /// overrides it.
  virtual void receive_burst(std::span<const received_datagram> burst) noexcept {
    for (const received_datagram& d : burst)
      receive(d.from, d.to_group, d.payload(), d.received_tsc);
  }
};

struct listener_options {
  unsigned workers = 1;
  std::uint32_t tx_capacity = 4096;     ///< frames that may wait in one link; a power of two
  /// Datagrams that may wait to be handled by their home worker, for each worker and interface. The
  /// readers of the interface share them, and each may use at least a burst of 64.
  std::uint32_t handed_capacity = 1024;
  std::uint32_t waiting_max = 65536;    ///< datagrams that one burst of a worker may send
  std::uint16_t descriptors = 1024; ///< descriptors of each receive and transmit queue
  rte_mempool* pool = nullptr;
};

class listener_group;

/// The part of one worker.
class listener final : public hearing {
 public:
  /// Reads each port of this worker once, and takes datagrams that other workers handed over, while
  /// there is room for the answers. Returns true when there was any datagram.
  bool poll(datagram_sink& sink) noexcept;
  /// Hands packets whose marks are durable to the ports. Returns true when any packet left.
  bool send(media& m, std::uint64_t now_tsc) noexcept;

  [[nodiscard]] datagram_transport& out() noexcept { return *out_; }
  [[nodiscard]] const datagram_transport& out() const noexcept { return *out_; }
  /// The sink has handled everything for this worker that was received before this TSC through the
  /// interface of the address. 0 means that nothing can be said yet.
  [[nodiscard]] std::uint64_t heard_until(client_address from) const noexcept override;

  /// This worker's link on each interface, by interface id.
  [[nodiscard]] std::span<const std::unique_ptr<link>> links() const noexcept { return links_; }
  /// Datagrams handed over to other workers, and those dropped because the other worker's ring was
  /// full.
  [[nodiscard]] std::uint64_t handed_over() const noexcept { return handed_over_.value(); }
  [[nodiscard]] std::uint64_t handed_dropped() const noexcept { return handed_dropped_.value(); }
  /// Announces the own addresses on the ports that this worker polls. Call it once.
  void announce() noexcept;

 private:
  friend class listener_group;
  listener(listener_group& group, unsigned number) : group_(&group), number_(number) {}
  /// Where datagrams for this worker come from on one interface, beside its own receive queue.
  struct source {
    std::uint16_t queue = 0;  ///< the receive queue that the other worker reads
    rte_ring* ring = nullptr; ///< filled by that worker
    std::uint64_t heard_until = 0;
  };
  /// What this worker knows of one interface.
  struct hearing_state {
    std::vector<source> sources;
    std::size_t next_source = 0; ///< the source that has its turn first in the next round
    bool own_first = false;      ///< the own queue had its turn before the sources
    /// When a read of the own queue first returned few frames.
    std::uint64_t short_since = 0;
    std::uint64_t own_until = UINT64_MAX; ///< like heard_until, of the own receive queue
    std::uint64_t heard_until = 0;        ///< the least of them
  };
  bool read_port(std::size_t id, datagram_sink& sink) noexcept;
  bool take_handed(std::size_t id, datagram_sink& sink) noexcept;
  void hand_over(std::size_t id, std::uint16_t n, datagram_sink& sink) noexcept;
  void hand_to_homes(std::size_t id, std::uint16_t n) noexcept;
  void handle(std::span<received_datagram> burst, datagram_sink& sink) noexcept;

  listener_group* group_;
  unsigned number_;
  std::vector<std::unique_ptr<link>> links_;
  std::unique_ptr<datagram_transport> out_;
  std::unique_ptr<received_datagram[]> burst_; ///< the datagrams that are being handled
  /// Datagrams of other workers' clients; behind them room for one home's.
  std::unique_ptr<received_datagram[]> leaving_;
  std::unique_ptr<std::uint8_t[]> homes_; ///< of the burst, and then of the datagrams that leave
  std::vector<hearing_state> hearing_; ///< for each interface
  statistic handed_over_, handed_dropped_;
};

/// The listeners of all workers and their common state.
class listener_group {
 public:
  /// The number of frames a pool must have whose lcore caches hold `cache_size` objects.
  [[nodiscard]] static std::uint32_t frames_needed(std::size_t interfaces,
                                                   const listener_options& options,
                                                   std::uint32_t cache_size) noexcept;
  /// Refuses a missing pool, a pool with too few frames, and zero workers. The interfaces must
  /// outlive the group.
  [[nodiscard]] static result<std::unique_ptr<listener_group>>
  create(std::span<net::interface* const> interfaces, const listener_options& options);
  /// No worker may be running any more.
  ~listener_group();
  listener_group(const listener_group&) = delete;
  listener_group& operator=(const listener_group&) = delete;

  [[nodiscard]] listener& worker(unsigned number) noexcept { return *workers_[number]; }
  [[nodiscard]] const listener& worker(unsigned number) const noexcept { return *workers_[number]; }

 private:
  friend class listener;
  /// All frames that were in a receive queue before this TSC have been read and handed over.
  struct alignas(cacheline_size) emptied {
    std::atomic<std::uint64_t> at{0};
  };
  struct port_state {
    /// One lock for each transmit queue that several workers share; none where each has its own.
    std::unique_ptr<spin_lock[]> tx_locks;
    std::uint16_t tx_queues = 1;
    std::uint16_t rx_queues = 1;
    std::unique_ptr<emptied[]> queues; ///< by receive queue
  };
  /// The worker that reads a receive queue.
  [[nodiscard]] unsigned reader_of(std::size_t interface, std::uint16_t queue) const noexcept {
    return static_cast<unsigned>((interface + queue) % workers_count_);
  }
  /// The ring from a reader to a home worker.
  [[nodiscard]] rte_ring*& ring(std::size_t interface, unsigned reader, unsigned home) noexcept {
    return rings_[(interface * workers_count_ + reader) * workers_count_ + home];
  }
  listener_group() = default;

  unsigned workers_count_ = 1;
  std::vector<std::unique_ptr<port_state>> ports_; ///< indexed by interface id
  std::vector<rte_ring*> rings_;
  std::vector<std::unique_ptr<listener>> workers_;
  std::uint64_t settle_tsc_ = 0;
};

} // namespace chainring::net
