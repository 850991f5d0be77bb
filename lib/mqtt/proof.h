// SPDX-License-Identifier: BSD-3-Clause
/// CONNECT packets that wait for the check of their passwords. Internal to lib/mqtt.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "access/password_file.h"
#include "stream/helper_crew.h"

namespace chainring::mqtt {

/// Gives the checks to helpers, and tells `decided` of each that was made. There is at most one for
/// each connection.
///
/// A check takes milliseconds, and whoever connects causes one. So hosts take turns, and each has
/// its own line: a host that sends thousands of wrong passwords waits for itself. Only few checks
/// are with the helpers at one time, because there they are in one line.
///
/// Thread-safety: one thread makes all calls.
class proof_desk {
 public:
  struct proof final : stream::helper_crew::job {
    proof_desk* desk = nullptr;
    std::uint32_t connection = 0, life = 0;
    std::uint64_t host = 0; ///< of the client (net::host_of)
    std::shared_ptr<const access::password_file> file;
    std::string user;
    std::vector<std::byte> password, packet; ///< the whole CONNECT
    bool good = false;

    void run() noexcept override { good = file->matches(user, password); }
    void finish() noexcept override { desk->finished(*this); }
  };
  class listener {
   public:
    virtual ~listener() = default;
    /// True when the connection is still there, so that the check is worth its time.
    [[nodiscard]] virtual bool awaits(const proof& p) const noexcept = 0;
    virtual void decided(proof& p) noexcept = 0;
  };

  void open(stream::helper_crew& crew, listener& told) noexcept {
    crew_ = &crew;
    told_ = &told;
  }
  void ask(std::unique_ptr<proof> p) {
    p->desk = this;
    line& of_host = lines_[p->host];
    if (of_host.empty()) turns_.push_back(p->host);
    of_host.push_back(std::move(p));
    ++waiting_;
    submit();
  }
  /// Goes on with what waits. Returns true when there was anything to do.
  bool poll() noexcept { return waiting_ != 0 && submit(); }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }

 private:
  using line = std::deque<std::unique_ptr<proof>>;

  // Takes the oldest check of the host whose turn it is.
  [[nodiscard]] std::unique_ptr<proof> take() noexcept {
    const auto at = lines_.find(turns_.front());
    turns_.pop_front();
    std::unique_ptr<proof> p = std::move(at->second.front());
    at->second.pop_front();
    --waiting_;
    if (at->second.empty())
      lines_.erase(at);
    else
      turns_.push_back(p->host);
    return p;
  }
  bool submit() noexcept {
    bool any = false;
    // Two for each helper, so that none waits for the next round of the worker.
    while (waiting_ != 0 && under_way_.size() < 2 * std::size_t{crew_->threads()} &&
           crew_->has_room()) {
      std::unique_ptr<proof> p = take();
      any = true;
      if (!told_->awaits(*p)) {
        told_->decided(*p);
        continue;
      }
      (void)crew_->submit(*p); // there is room
      under_way_.push_back(std::move(p));
    }
    return any;
  }
  void finished(proof& p) noexcept {
    for (std::unique_ptr<proof>& one : under_way_)
      if (one.get() == &p) {
        const std::unique_ptr<proof> mine = std::move(one);
        one = std::move(under_way_.back());
        under_way_.pop_back();
        told_->decided(*mine);
        return;
      }
  }

  stream::helper_crew* crew_ = nullptr;
  listener* told_ = nullptr;
  std::unordered_map<std::uint64_t, line> lines_; ///< by host; none is empty
  std::deque<std::uint64_t> turns_;               ///< the hosts that have a line, once each
  std::size_t waiting_ = 0;
  std::vector<std::unique_ptr<proof>> under_way_;
};

} // namespace chainring::mqtt
