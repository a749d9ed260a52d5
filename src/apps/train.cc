// fathom train: see train/trainer.
#include "apps/verbs.h"
namespace fathom::apps {
Status train(const TrainOptions&) { return unsupported("training lands next"); }
}  // namespace fathom::apps
