// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "certificates.h"
#include "tls/context.h"

namespace chainring::tls {
namespace {

TEST(TlsContext, WhatCannotBeUsedIsRefusedWithTheNameOfTheFile) {
  certificate_maker maker;
  const certificate_files good = maker.certificate("server"), other = maker.certificate("other");
  const auto refusal = [](const context_options& o) {
    auto made = context::load(o);
    return made ? std::string() : made.error().message;
  };
  context_options o;
  EXPECT_NE(refusal(o).find("certificates"), std::string::npos);
  o.certificates = {good};
  EXPECT_EQ(refusal(o), "");
  const auto names = [&](const std::string& file, const char* words) {
    const std::string said = refusal(o);
    EXPECT_NE(said.find(file), std::string::npos) << said;
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  o.certificates = {{"/absent", good.key}};
  names("/absent", "cannot be read");
  o.certificates = {{good.chain, "/absent"}};
  names("/absent", "private key");
  o.certificates = {{good.chain, other.key}};
  names(other.key, "private key");
  o.certificates = {{maker.write("text", "no certificate\n"), good.key}};
  names("/text", "PEM");
  o.certificates = {good};
  o.clients = client_certificates::required;
  names("", "trusted");
  o.trusted = maker.path("text");
  names("/text", "authorities");
  o.trusted = maker.ca();
  EXPECT_EQ(refusal(o), "");
  o.clients = client_certificates::none;
  names("", "trusted");
}

TEST(TlsContext, AKeyWithAPassphraseIsRefusedAndNobodyIsAskedForIt) {
  certificate_maker maker;
  const certificate_files good = maker.certificate("server");
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  FILE* const out = std::fopen(maker.path("locked").c_str(), "w");
  unsigned char word[] = "secret";
  PEM_write_PrivateKey(out, key, EVP_aes_256_cbc(), word, 6, nullptr, nullptr);
  std::fclose(out);
  EVP_PKEY_free(key);
  context_options o;
  o.certificates = {{good.chain, maker.path("locked")}};
  auto made = context::load(o);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("without a passphrase"), std::string::npos);
}

} // namespace
} // namespace chainring::tls
