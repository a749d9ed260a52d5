#include "apps/served_model.h"

#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

namespace fathom::apps {
namespace {

std::string name_of(const std::string& model, const Path& dir) {
  std::error_code failed;
  if (!std::filesystem::exists(model, failed)) return model;
  const Path whole = std::filesystem::absolute(dir, failed).lexically_normal();
  return whole.has_filename() ? whole.filename().string() : whole.parent_path().filename().string();
}

}  // namespace

serve::ServedModel served_model(Session& session, const std::string& model) {
  serve::ServedModel served{.engine = &session.engine(),
                            .tokenizer = &session.tokenizer(),
                            .chat_format = session.chat_format() ? &*session.chat_format() : nullptr,
                            .encode_prompt = [s = &session](std::string_view text) { return s->encode_prompt(text); },
                            .defaults = session.sampling({}),
                            .speculation = session.speculation(),
                            .vocab_size = session.model().config.vocab_size,
                            .max_model_len = session.context_length(),
                            .names = {name_of(model, session.model_dir())}};
  if (served.chat_format != nullptr) served.tools = serve::tool_format_of(*served.chat_format);
  return served;
}

int64_t allow_many_open_files() {
  constexpr int64_t kUsual = 1024;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kUsual;
  const rlimit raised{.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT32_MAX));
}

}  // namespace fathom::apps
