// SPDX-License-Identifier: BSD-3-Clause
// Prints what each linked media driver says to a file that it cannot open. A program that is linked
// with the archive must have all drivers.   drivers DIRECTORY
#include <chainring/chainring.h>
#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (const chainring::media_driver* d : chainring::media_drivers()) {
    chainring::media_options o;
    o.path = std::string(argv[1]) + "/absent";
    o.driver = d->name;
    auto m = chainring::open_media(o);
    std::printf("%s: %s\n", d->name, m ? "opened" : m.error().message.c_str());
  }
}
