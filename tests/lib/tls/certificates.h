// SPDX-License-Identifier: BSD-3-Clause
/// Certificates for tests, in a directory that ends with the program.
#pragma once
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "tls/context.h"

namespace chainring::tls {

class certificate_maker {
 public:
  certificate_maker() {
    char name[] = "/tmp/chainring-tls-XXXXXX";
    directory_ = mkdtemp(name);
    ca_ = make("Test authority", "", true, "ca");
    other_ca_ = make("Other authority", "", true, "other_ca");
  }
  ~certificate_maker() { std::filesystem::remove_all(directory_); }
  certificate_maker(const certificate_maker&) = delete;
  certificate_maker& operator=(const certificate_maker&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] std::string ca() const { return path("ca.pem"); }
  /// A certificate for this common name, and for these names of hosts such as "DNS:a,DNS:b".
  certificate_files certificate(const std::string& name, const std::string& hosts = {},
                                bool by_other_authority = false) {
    const std::string file = "c" + std::to_string(made_++);
    (void)make(name, hosts, false, file, by_other_authority);
    return {path(file + ".pem"), path(file + ".key")};
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }

  /// The revocation list of the test authority, with these certificates in it. `seconds` from now
  /// it is out of force.
  std::string revocations(const std::vector<certificate_files>& revoked, long seconds = 3600) {
    X509_CRL* const list = X509_CRL_new();
    X509_CRL_set_version(list, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(ca_.certificate));
    ASN1_TIME* const time = ASN1_TIME_new();
    X509_CRL_set1_lastUpdate(list, X509_gmtime_adj(time, -7200));
    X509_CRL_set1_nextUpdate(list, X509_gmtime_adj(time, seconds));
    for (const certificate_files& files : revoked) {
      FILE* const in = std::fopen(files.chain.c_str(), "r");
      X509* const c = PEM_read_X509(in, nullptr, nullptr, nullptr);
      std::fclose(in);
      X509_REVOKED* const one = X509_REVOKED_new();
      X509_REVOKED_set_serialNumber(one, X509_get_serialNumber(c));
      X509_REVOKED_set_revocationDate(one, X509_gmtime_adj(time, -60));
      X509_CRL_add0_revoked(list, one);
      X509_free(c);
    }
    ASN1_TIME_free(time);
    X509_CRL_sign(list, ca_.key, EVP_sha256());
    const std::string name = path("revoked" + std::to_string(made_++) + ".pem");
    FILE* const out = std::fopen(name.c_str(), "w");
    PEM_write_X509_CRL(out, list);
    std::fclose(out);
    X509_CRL_free(list);
    return name;
  }

 private:
  struct pair {
    EVP_PKEY* key = nullptr;
    X509* certificate = nullptr;
    pair() = default;
    pair(EVP_PKEY* k, X509* c) : key(k), certificate(c) {}
    pair(pair&& other) noexcept
        : key(std::exchange(other.key, nullptr)),
          certificate(std::exchange(other.certificate, nullptr)) {}
    pair& operator=(pair&& other) noexcept {
      std::swap(key, other.key);
      std::swap(certificate, other.certificate);
      return *this;
    }
    ~pair() {
      EVP_PKEY_free(key);
      X509_free(certificate);
    }
  };

  pair make(const std::string& name, const std::string& hosts, bool authority,
            const std::string& file, bool by_other = false) {
    pair p(EVP_EC_gen("P-256"), X509_new());
    X509* const c = p.certificate;
    X509_set_version(c, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c), 1000 + made_);
    X509_gmtime_adj(X509_getm_notBefore(c), -3600);
    X509_gmtime_adj(X509_getm_notAfter(c), 86400);
    X509_set_pubkey(c, p.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()),
                               static_cast<int>(name.size()), -1, 0);
    const pair& by = by_other ? other_ca_ : ca_;
    X509* const issuer = authority ? c : by.certificate;
    X509_set_issuer_name(c, X509_get_subject_name(issuer));
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, c, nullptr, nullptr, 0);
    const auto extend = [&](int what, const char* value) {
      X509_EXTENSION* const e = X509V3_EXT_conf_nid(nullptr, &context, what, value);
      X509_add_ext(c, e, -1);
      X509_EXTENSION_free(e);
    };
    extend(NID_basic_constraints, authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!hosts.empty()) extend(NID_subject_alt_name, hosts.c_str());
    X509_sign(c, authority ? p.key : by.key, EVP_sha256());
    FILE* out = std::fopen(path(file + ".pem").c_str(), "w");
    PEM_write_X509(out, c);
    std::fclose(out);
    out = std::fopen(path(file + ".key").c_str(), "w");
    PEM_write_PrivateKey(out, p.key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(out);
    return p;
  }

  std::string directory_;
  pair ca_, other_ca_;
  int made_ = 0;
};

} // namespace chainring::tls
