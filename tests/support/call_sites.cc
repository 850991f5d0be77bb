// SPDX-License-Identifier: BSD-3-Clause
#include "support/call_sites.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <pthread.h>
#include <sstream>
#include <unistd.h>

#include "base/assert.h"
#include "support/crash_case.h"

namespace chainring::test {

namespace {

/// Where the program was loaded, and where its code ends.
struct image {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
};

const image& program() {
  static const image found = [] {
    image out;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* to) {
          auto& here = *static_cast<image*>(to);
          here.base = info->dlpi_addr;
          for (int i = 0; i < info->dlpi_phnum; ++i)
            if (info->dlpi_phdr[i].p_type == PT_LOAD)
              here.size = std::max<std::uint64_t>(here.size, info->dlpi_phdr[i].p_vaddr +
                                                                 info->dlpi_phdr[i].p_memsz);
          return 1; // the first is the program
        },
        &out);
    return out;
  }();
  return found;
}

/// End of the calling thread's stack.
std::uint64_t stack_end() noexcept {
  thread_local const std::uint64_t end = [] {
    pthread_attr_t attributes;
    void* low = nullptr;
    std::size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return std::uint64_t{0};
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    return reinterpret_cast<std::uint64_t>(low) + size;
  }();
  return end;
}

/// Where the hooks return to: what runs inside one is not called by the code around it.
std::unordered_set<std::uint64_t>& hooks() {
  static std::unordered_set<std::uint64_t> all;
  return all;
}

const std::vector<call_site>& all_sites();

std::vector<call_site> ask(const std::vector<std::uint64_t>& returns) {
  // This path stays right where the program's file is replaced meanwhile.
  const std::string path = "/proc/" + std::to_string(getpid()) + "/exe";
  std::string command = std::string("python3 '") + CHAINRING_SOURCE_ROOT +
                        "/tests/support/call_sites' '" + path + "'";
  for (const std::uint64_t r : returns) {
    char hex[20];
    std::snprintf(hex, sizeof hex, " %llx", static_cast<unsigned long long>(r));
    command += hex;
  }
  std::FILE* out = popen(command.c_str(), "r");
  CHAINRING_ASSERT(out != nullptr);
  std::string text;
  char some[4096];
  for (std::size_t got; (got = std::fread(some, 1, sizeof some, out)) != 0;)
    text.append(some, got);
  if (pclose(out) != 0) {
    std::fprintf(stderr, "call sites: %s failed: it needs python3, objdump and addr2line\n",
                 command.c_str());
    std::abort();
  }
  std::vector<call_site> sites;
  std::istringstream lines(text);
  for (std::string place, call, addresses; lines >> place >> call >> addresses;) {
    call_site s;
    std::istringstream each(addresses);
    for (std::string one; std::getline(each, one, ',');)
      s.returns.push_back(std::strtoull(one.c_str(), nullptr, 16));
    if (place == "-") {
      hooks().insert(s.returns.begin(), s.returns.end());
      continue;
    }
    const auto colon = place.rfind(':');
    s.path = place.substr(0, colon);
    s.line = static_cast<unsigned>(std::strtoul(place.c_str() + colon + 1, nullptr, 10));
    s.call = call;
    s.label = label_of(s.path, s.line);
    sites.push_back(std::move(s));
  }
  return sites;
}

const std::vector<call_site>& all_sites() {
  static const std::vector<call_site> all = ask({});
  return all;
}

} // namespace

std::string call_site::name() const {
  return path + ":" + std::to_string(line) + " " + call + (label.empty() ? "" : " " + label);
}

bool is_under(const std::string& path, const std::vector<std::string>& folders) {
  return std::ranges::any_of(folders, [&](const std::string& f) { return path.starts_with(f); });
}

std::vector<call_site> find_call_sites(const std::vector<std::string>& under) {
  std::vector<call_site> out;
  std::ranges::copy_if(all_sites(), std::back_inserter(out),
                       [&](const call_site& s) { return is_under(s.path, under); });
  return out;
}

std::vector<call_site> call_sites_at(const std::vector<std::uint64_t>& returns) {
  return returns.empty() ? std::vector<call_site>{} : ask(returns);
}

call_watch::call_watch() : hooks_((all_sites(), hooks())) {}

void call_watch::switch_off(const call_site& site) {
  off_.insert(site.returns.begin(), site.returns.end());
}

[[gnu::noinline]] bool call_watch::allows() noexcept {
  constexpr std::size_t frames_max = 128;
  const image& here = program();
  const std::uint64_t end = stack_end();
  std::uint64_t returns[frames_max];
  std::size_t n = 0;
  std::uint64_t hash = 0;
  bool off = false;
  auto frame = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
  while (n < frames_max && frame % 8 == 0 && frame + 16 <= end) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(frame);
    const std::uint64_t at = words[1] - here.base;
    if (hooks_.contains(at)) break;
    if (at < here.size) {
      returns[n++] = at;
      hash = (hash ^ at) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
      off = off || (!off_.empty() && off_.contains(at));
    }
    if (words[0] <= frame) break;
    frame = words[0];
  }
  if (seen_.insert(hash).second) stacks_.emplace_back(returns, returns + n);
  suppressed_ += off;
  return !off;
}

} // namespace chainring::test
