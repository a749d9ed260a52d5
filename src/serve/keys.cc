#include "serve/keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <cctype>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace fathom::serve {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 20;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? std::string_view{}
                                         : text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace

ApiKeys::Digest ApiKeys::digest(std::string_view key) {
  Digest out{};
  unsigned int size = 0;
  const int done = EVP_Digest(key.data(), key.size(), out.data(), &size, EVP_sha256(), nullptr);
  check(done == 1 && size == out.size(), "SHA-256 works");
  return out;
}

Result<ApiKeys::Stamp> ApiKeys::stamp(const Path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) {
    return io_error("cannot read the API keys of " + file.string() + ": " + std::strerror(errno));
  }
  return Stamp{info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size, info.st_ino};
}

Result<ApiKeys> ApiKeys::create(const std::vector<std::string>& keys, const Path& file) {
  ApiKeys made;
  for (const std::string& key : keys) {
    if (trimmed(key) != key || key.empty()) {
      return invalid("an API key is empty or has blanks around it; give at least one visible character");
    }
    made.own_.push_back(digest(key));
  }
  made.file_ = file;
  if (auto read = made.reload(true); !read) return read.error();
  return made;
}

bool ApiKeys::accepts(std::string_view key) const {
  const Digest given = digest(key);
  int found = 0;
  for (const auto* keys : {&own_, &from_file_}) {
    for (const Digest& known : *keys) found |= CRYPTO_memcmp(known.data(), given.data(), given.size()) == 0 ? 1 : 0;
  }
  return found != 0;
}

Result<bool> ApiKeys::reload(bool always) {
  if (file_.empty()) return false;
  const auto now = stamp(file_);
  if (!now) return now.error();
  if (!always && *now == stamp_) return false;
  stamp_ = *now;  // a broken file is complained about once
  const auto text = read_file(file_, kMaxFileBytes);
  if (!text) return text.error();
  std::vector<Digest> keys;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size() - 1);
    const std::string_view line = trimmed(rest.substr(0, end + 1));
    rest.remove_prefix(end + 1);
    if (!line.empty() && line.front() != '#') keys.push_back(digest(line));
  }
  if (keys.empty()) return invalid(file_.string() + " has no API key; write one a line");
  from_file_ = std::move(keys);
  return true;
}

std::string_view bearer_key(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(authorization[i])) != kScheme[i]) return {};
  }
  return trimmed(authorization.substr(kScheme.size()));
}

}  // namespace fathom::serve
