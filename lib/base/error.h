// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "assert.h"

namespace chainring {

enum class errc {
  invalid_argument, ///< a caller's argument is out of the accepted range
  not_found,        ///< there is no such file, root or object
  exists,           ///< the object exists already
  busy,             ///< another process has the region open
  io,               ///< the operating system failed a call
  corrupt,          ///< the medium holds content that is not valid
  version,          ///< this build does not know a format version, flag or size
  no_space,         ///< the file system or the region is full
  unsupported,      ///< this medium or build does not offer the operation
  read_only,        ///< a write failed earlier, so the region only serves reads
};

[[nodiscard]] const char* to_string(errc code) noexcept;

/// An error, as a sentence that names the object or argument and, where there is one, the remedy.
/// It allocates memory, so only the control path uses it.
struct error {
  errc code{};
  std::string message;
};

namespace detail {
/// Ends the process because the value of a result was asked for that has an error, and says it.
[[noreturn]] void value_of_error(const error& why) noexcept;
} // namespace detail

/// Makes an error of the sentence and the operating system's text for `errno_value`.
[[nodiscard]] error system_error(errc code, std::string message, int errno_value);

/// A value or an error, for the control path. Calls on the data path return counts and statuses.
template <class T> class [[nodiscard]] result {
 public:
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(chainring::error e) : state_(std::in_place_index<1>, std::move(e)) {}

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] T& value() & {
    if (!ok()) [[unlikely]]
      detail::value_of_error(error());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& {
    if (!ok()) [[unlikely]]
      detail::value_of_error(error());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T value() && {
    if (!ok()) [[unlikely]]
      detail::value_of_error(error());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  [[nodiscard]] const chainring::error& error() const {
    CHAINRING_EXPECTS(!ok(), "error() of a result that has a value; ask ok() first");
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, chainring::error> state_;
};

template <> class [[nodiscard]] result<void> {
 public:
  result() = default;
  result(chainring::error e) : error_(std::move(e)) {}
  [[nodiscard]] bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] const chainring::error& error() const {
    CHAINRING_EXPECTS(!ok(), "error() of a result that has none; ask ok() first");
    return *error_;
  }

 private:
  std::optional<chainring::error> error_;
};

} // namespace chainring
