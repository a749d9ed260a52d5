// fathom train: a run from a TOML configuration; resumes by itself from the newest snapshot of checkpoint.directory.
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/json.h"
#include "train/trainer.h"

namespace fathom::apps {
namespace {

/// `validation`: nullptr where nothing was kept for it.
void print_result(const TrainOptions& options, const RunProgress& done, const ValidationReport* validation) {
  if (options.json) {
    Json out = Json::object();
    out.set("steps", done.step).set("tokens", done.tokens);
    if (validation != nullptr) {
      Json score = Json::object().set("nats_per_token", validation->loss);
      if (validation->bits_per_byte) score.set("bits_per_byte", *validation->bits_per_byte);
      out.set("validation", std::move(score));
    }
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("trained %lld steps, %s tokens\n", static_cast<long long>(done.step), count_text(done.tokens).c_str());
  if (validation == nullptr) return;
  std::printf("validation: %.4f nats per token", validation->loss);
  if (validation->bits_per_byte) std::printf(", %.4f bits per byte", *validation->bits_per_byte);
  std::printf("\n");
}

}  // namespace

Status train(const TrainOptions& options) {
  if (options.config.empty() && !options.print_config) {
    return invalid(
        "CONFIG is required: TOML file; --print-config prints one with every setting; see fathom train --help");
  }
  const auto config =
      load_train_config({.file = options.config, .environment = process_environment(), .overrides = options.overrides});
  if (!config) return config.error();
  if (options.print_config) {
    std::fputs(to_documented_toml(*config).c_str(), stdout);
    return {};
  }
  const auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  auto trainer = Trainer::create(*config, *compute->kernels, *compute->pool);
  if (!trainer) return trainer.error();
  // With --json standard output is the result alone.
  for (const std::string& note : (*trainer)->notes())
    std::fprintf(options.json ? stderr : stdout, "%s\n", note.c_str());
  ConsoleProgress progress(options.compute.is_quiet());
  if (auto s = (*trainer)->run(progress); !s) return s;
  progress.finish();
  const bool validates = !config->validation_shards.empty();
  const ValidationReport validation = validates ? (*trainer)->validate() : ValidationReport{};
  print_result(options, (*trainer)->progress(), validates ? &validation : nullptr);
  return {};
}

}  // namespace fathom::apps
