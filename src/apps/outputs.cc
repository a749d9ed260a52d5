#include "apps/outputs.h"

#include "base/file.h"

namespace fathom::apps {
namespace {

bool is_same(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  std::error_code ignored;
  return Path(a).lexically_normal() == Path(b).lexically_normal() || std::filesystem::equivalent(a, b, ignored);
}

}  // namespace

Status check_outputs(const std::vector<Output>& outputs, const std::vector<std::string>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& [flag, path] = outputs[i];
    for (size_t earlier = 0; earlier < i; ++earlier) {
      if (is_same(path, outputs[earlier].path)) {
        return invalid(flag + " " + path + " is the file of " + outputs[earlier].flag + "; name another one");
      }
    }
    for (const std::string& input : inputs) {
      if (is_same(path, input)) return invalid(flag + " " + path + " is an input; name another file");
    }
  }
  return {};
}

}  // namespace fathom::apps
