import { LlamaGrammarEvaluationState, type LlamaGrammar } from 'node-llama-cpp'
import { LruMap } from '../src/core/bounded.ts'
import { fail } from '../src/core/errors.ts'
import type { LoadedModel } from './model.ts'
import { openGrammarState } from './native.ts'

const grammarsKept = 32

export type Grammars = {
  /** Compiles a GBNF text, or finds it compiled. @throws invalid_request when llama.cpp cannot use it. */
  compile(text: string, param: string): Promise<LlamaGrammar>
  /** The state of a grammar at its beginning; each reply needs its own. */
  open(grammar: LlamaGrammar): object
}

export function createGrammars(loaded: LoadedModel): Grammars {
  const compiled = new LruMap<string, LlamaGrammar>(grammarsKept)
  return {
    async compile(text, param) {
      const known = compiled.get(text)
      if (known) return known
      try {
        const grammar = await loaded.llama.createGrammar({ grammar: text })
        compiled.set(text, grammar)
        return grammar
      } catch (error) {
        throw fail('invalid_request', {
          message: `\`${param}\` is too large or too deep for a grammar. Simplify the schema.`,
          param,
          cause: error,
        })
      }
    },
    open: (grammar) => openGrammarState(new LlamaGrammarEvaluationState({ model: loaded.model, grammar })),
  }
}
