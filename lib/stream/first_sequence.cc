// SPDX-License-Identifier: BSD-3-Clause
#include "stream/first_sequence.h"

#include <array>
#include <cstring>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

namespace chainring::stream {

struct first_sequence::state {
  EVP_MAC_CTX* context = nullptr;
  std::array<unsigned char, 16> secret{};
  std::size_t size = 8;
  std::array<OSSL_PARAM, 2> parameters{};
  ~state() { EVP_MAC_CTX_free(context); }
};

first_sequence::first_sequence() noexcept = default;
first_sequence::~first_sequence() = default;

bool first_sequence::make() noexcept {
  auto s = std::make_unique<state>();
  if (RAND_bytes(s->secret.data(), static_cast<int>(s->secret.size())) != 1) return false;
  EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "SIPHASH", nullptr);
  if (mac == nullptr) return false;
  s->context = EVP_MAC_CTX_new(mac);
  EVP_MAC_free(mac); // the context has a reference of its own
  if (s->context == nullptr) return false;
  s->parameters = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &s->size),
                   OSSL_PARAM_construct_end()};
  state_ = std::move(s);
  return true;
}

std::uint64_t first_sequence::hash(const connection_ends& e, std::uint64_t of) noexcept {
  const std::array<std::uint64_t, 6> words{
      e.own.high, e.own.low, e.peer.high,
      e.peer.low, of,        std::uint64_t{e.own_port} << 16 | e.peer_port};
  std::array<unsigned char, 8> out{};
  std::size_t n = 0;
  const bool ok =
      EVP_MAC_init(state_->context, state_->secret.data(), state_->secret.size(),
                   state_->parameters.data()) == 1 &&
      EVP_MAC_update(state_->context, reinterpret_cast<const unsigned char*>(words.data()),
                     sizeof words) == 1 &&
      EVP_MAC_final(state_->context, out.data(), &n, out.size()) == 1;
  // Without the function a random number serves as well, except for ports that are used again soon,
  // and for cookies, of which none is recognized then.
  if (!ok) (void)RAND_bytes(out.data(), static_cast<int>(out.size()));
  std::uint64_t hash;
  std::memcpy(&hash, out.data(), sizeof hash);
  return hash;
}

std::uint32_t first_sequence::operator()(const connection_ends& ends,
                                         std::uint64_t time_4us) noexcept {
  return static_cast<std::uint32_t>(hash(ends, 0)) + static_cast<std::uint32_t>(time_4us);
}

namespace {

constexpr std::array<std::uint16_t, 4> segment_sizes = {536, 1220, 1440, 1460};
constexpr std::uint32_t hash_bits = 28, hash_mask = (1u << hash_bits) - 1;
constexpr std::uint32_t size_shift = 28, sack_bit = 1u << 30, period_shift = 31;

/// The word that stands for a cookie in its hash: never 0, which a sequence number without one has.
constexpr std::uint64_t cookie_word(std::uint32_t upper, std::uint32_t peer_sequence,
                                    std::uint64_t period) noexcept {
  return (period + 1) << 36 | std::uint64_t{upper >> hash_bits} << 32 | peer_sequence;
}

} // namespace

std::uint32_t first_sequence::cookie(const connection_ends& ends, std::uint32_t peer_sequence,
                                     const syn_offer& offer, std::uint64_t now_s) noexcept {
  const std::uint64_t period = now_s / period_s;
  std::uint32_t size = 0;
  for (std::uint32_t i = 1; i < segment_sizes.size(); ++i)
    if (offer.mss >= segment_sizes[i]) size = i;
  const std::uint32_t upper = static_cast<std::uint32_t>(period & 1) << period_shift |
                              (offer.sack ? sack_bit : 0) | size << size_shift;
  const std::uint64_t of = hash(ends, cookie_word(upper, peer_sequence, period));
  return upper | (static_cast<std::uint32_t>(of) & hash_mask);
}

std::optional<syn_offer> first_sequence::read_cookie(std::uint32_t cookie,
                                                     const connection_ends& ends,
                                                     std::uint32_t peer_sequence,
                                                     std::uint64_t now_s) noexcept {
  std::uint64_t period = now_s / period_s;
  if ((period & 1) != cookie >> period_shift) {
    if (period == 0) return {};
    --period;
  }
  const std::uint64_t of = hash(ends, cookie_word(cookie & ~hash_mask, peer_sequence, period));
  if (((static_cast<std::uint32_t>(of) ^ cookie) & hash_mask) != 0) return {};
  return syn_offer{segment_sizes[cookie >> size_shift & 3], (cookie & sack_bit) != 0};
}

} // namespace chainring::stream
