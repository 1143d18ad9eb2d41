#include "sae/train/engine/activation.h"

#include "sae/train/engine/batch_topk.h"
#include "sae/train/engine/dense_rule.h"
#include "sae/train/engine/gated.h"
#include "sae/train/engine/jumprelu.h"
#include "sae/train/engine/relu.h"
#include "sae/train/engine/topk.h"

namespace sae::train {

template <class T>
std::unique_ptr<DenseRule<T>> Activation<T>::CreateDenseRule() {
  return nullptr;
}

template <class T>
std::unique_ptr<Activation<T>> CreateActivation(const Context& context,
                                                const model::Parameters<T>& parameters) {
  switch (context.options.architecture) {
    case model::Architecture::kTopK: return std::make_unique<TopKActivation<T>>(context);
    case model::Architecture::kBatchTopK:
    case model::Architecture::kMatryoshka: return std::make_unique<BatchTopKActivation<T>>(context);
    case model::Architecture::kGated: return std::make_unique<Gated<T>>(context, parameters);
    case model::Architecture::kJumpRelu: return std::make_unique<JumpRelu<T>>(context, parameters);
    case model::Architecture::kReluL1: break;
  }
  return std::make_unique<Relu<T>>(context);
}

template class Activation<float>;
template class Activation<double>;
template std::unique_ptr<Activation<float>> CreateActivation(const Context&,
                                                             const model::Parameters<float>&);
template std::unique_ptr<Activation<double>> CreateActivation(const Context&,
                                                              const model::Parameters<double>&);

}  // namespace sae::train
