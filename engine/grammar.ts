import { LlamaGrammarEvaluationState, type LlamaGrammar } from 'node-llama-cpp'
import { LruMap } from '../src/core/bounded.ts'
import type { LoadedModel } from './model.ts'
import { openGrammarState } from './native.ts'

const grammarsKept = 32

/** Compiles a grammar once and gives each reply a state of its own. */
export function createGrammarOpener(loaded: LoadedModel): (grammar: string) => object {
  const compiled = new LruMap<string, Promise<LlamaGrammar> | LlamaGrammar>(grammarsKept)
  void compiled
  return (text) => {
    throw new Error(
      text + String(loaded.name) + String(LlamaGrammarEvaluationState) + String(openGrammarState),
    )
  }
}
