import { getLlama, type LlamaContextSequence, type LlamaModel, type Token } from 'node-llama-cpp'
import { announce, answer } from '../child.ts'

/** node-llama-cpp called directly: the same model, the same sequences, the same prompts, and nothing around them. */

export type DirectOrder = { prompts: readonly string[]; maxTokens: number }
export type DirectReport = { tokens: number; wallMs: number; texts: string[] }

const [modelPath = '', sequencesText = '8', threadsText = '1'] = process.argv.slice(2)
const sequenceCount = Number(sequencesText)

const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true })
const model = await llama.loadModel({ modelPath })
const context = await model.createContext({
  sequences: sequenceCount,
  contextSize: 512,
  threads: Number(threadsText),
})
const sequences = Array.from({ length: sequenceCount }, () => context.getSequence())

async function complete(sequence: LlamaContextSequence, prompt: string, maxTokens: number): Promise<Token[]> {
  await sequence.clearHistory()
  const tokens: Token[] = []
  for await (const token of sequence.evaluate(tokenize(model, prompt), { temperature: 0 })) {
    tokens.push(token)
    if (tokens.length === maxTokens) break
  }
  return tokens
}

function tokenize(model: LlamaModel, prompt: string) {
  const tokens = model.tokenize(prompt)
  const { bos } = model.tokens
  return bos !== null && model.tokens.shouldPrependBosToken ? [bos, ...tokens] : tokens
}

async function completeAll({ prompts, maxTokens }: DirectOrder): Promise<DirectReport> {
  const waiting = [...prompts.entries()]
  const texts: string[] = []
  let tokens = 0
  const startedAtMs = performance.now()
  const work = async (sequence: LlamaContextSequence) => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const generated = await complete(sequence, next[1], maxTokens)
      tokens += generated.length
      texts[next[0]] = model.detokenize(generated)
    }
  }
  await Promise.all(sequences.map(work))
  return { tokens, wallMs: performance.now() - startedAtMs, texts }
}

answer((order) => completeAll(order as DirectOrder))
announce()
