// fathom train: a run from a TOML configuration; resumes by itself from the newest snapshot of checkpoint.directory.
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "train/trainer.h"

namespace fathom::apps {

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
  for (const std::string& note : (*trainer)->notes()) std::printf("%s\n", note.c_str());
  ConsoleProgress progress(options.quiet || options.compute.is_quiet());
  if (auto s = (*trainer)->run(progress); !s) return s;
  progress.finish();
  std::printf("trained %lld steps, %s tokens\n", static_cast<long long>((*trainer)->progress().step),
              count_text((*trainer)->progress().tokens).c_str());
  if (config->validation_shards.empty()) return {};
  const ValidationReport validation = (*trainer)->validate();
  std::printf("validation: %.4f nats per token", validation.loss);
  if (validation.bits_per_byte) std::printf(", %.4f bits per byte", *validation.bits_per_byte);
  std::printf("\n");
  return {};
}

}  // namespace fathom::apps
