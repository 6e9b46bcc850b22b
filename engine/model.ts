import { open, stat } from 'node:fs/promises'
import {
  getLlama,
  LlamaLogLevel,
  readGgufFileInfo,
  type GgufFileInfo,
  type Llama,
  type LlamaContext,
  type LlamaModel,
  type Token,
} from 'node-llama-cpp'
import { SetupError } from '../src/core/errors.ts'
import { openNative, type Native } from './native.ts'
import { contextTokensDefaultMax, resolveThreads, type EngineOptions } from './options.ts'
import { Vocabulary } from './vocabulary.ts'

/** Largest batch of one decoding step, in tokens. */
const batchTokensMax = 512

/** A model in memory, with the context that all sequences share. */
export type LoadedModel = {
  name: string
  llama: Llama
  model: LlamaModel
  native: Native
  vocabulary: Vocabulary
  /** Tokens that one sequence can hold. */
  contextTokens: number
  batchTokens: number
  threads: number
  /** False for models whose cache can only be extended or dropped whole (recurrent, sliding window). */
  canCut: boolean
  chatTemplate: string | null
  /** Turns text into tokens; with `special`, the names of control tokens in it become those tokens. */
  tokenize(text: string, special: boolean): number[]
  /** The text of tokens from the beginning of a text on; control tokens have none. */
  detokenize(tokens: readonly number[]): string
  /** The token that every prompt begins with, for the models that want one. */
  beginToken: number | null
  isEnd: (token: number) => boolean
  /** Every token that ends a reply. */
  endTokens: readonly number[]
  dispose(): Promise<void>
}

/**
 * Loads the GGUF file and makes a context of `parallel` sequences.
 * @throws SetupError in one sentence when the file is missing or broken, or memory does not suffice.
 */
export async function loadModel(options: EngineOptions, signal?: AbortSignal): Promise<LoadedModel> {
  const info = await readHeader(options.modelPath)
  const llama = await openLlama(options)
  try {
    return await loadInto({ llama, info, options, ...(signal && { signal }) })
  } catch (error) {
    // Takes the model and its context along.
    await llama.dispose()
    throw error
  }
}

async function loadInto(input: {
  llama: Llama
  info: GgufFileInfo
  options: EngineOptions
  signal?: AbortSignal
}): Promise<LoadedModel> {
  const { llama, info, options } = input
  const threads = resolveThreads(options.threads)
  const model = await openModel(input)
  const contextTokens =
    options.contextTokens > 0
      ? options.contextTokens
      : Math.min(model.trainContextSize, contextTokensDefaultMax)
  const batchTokens = Math.max(Math.min(contextTokens * options.parallel, batchTokensMax), options.parallel)
  const context = await openContext({ model, options, contextTokens, batchTokens, threads })
  const vocabulary = new Vocabulary(model, vocabularySize(info, options.modelPath))
  const ends: (boolean | undefined)[] = []
  const isEnd = (token: number) => (ends[token] ??= model.isEogToken(token as Token))
  const { isRecurrent, isHybrid, swaSize } = model.fileInsights
  return {
    name: options.name,
    llama,
    model,
    native: openNative(llama, model, context),
    vocabulary,
    contextTokens,
    batchTokens,
    threads,
    canCut: !isRecurrent && !isHybrid && (swaSize ?? 0) === 0,
    chatTemplate: info.metadata.tokenizer?.chat_template ?? null,
    tokenize: (text, special) => model.tokenize(text, special),
    detokenize: (tokens) => model.detokenize(tokens as Token[]),
    beginToken: model.tokens.shouldPrependBosToken ? model.tokens.bos : null,
    isEnd,
    endTokens: [...vocabulary.controlTexts().values()].filter(isEnd),
    async dispose() {
      await context.dispose()
      await model.dispose()
      await llama.dispose()
    },
  }
}

/** Reads the header alone: a wrong file is told from a right one before anything large is loaded. */
async function readHeader(path: string): Promise<GgufFileInfo> {
  const found = await stat(path).catch(() => null)
  if (found === null) {
    throw new SetupError(
      `The model file ${path} does not exist. Check the path, or download the model first.`,
    )
  }
  if (!found.isFile()) throw new SetupError(`${path} is not a file. Give the path of a GGUF file.`)
  const file = await open(path).catch(() => {
    throw new SetupError(`The model file ${path} cannot be read. Check its permissions.`)
  })
  const magic = Buffer.alloc(4)
  try {
    await file.read(magic, 0, 4, 0)
  } finally {
    await file.close()
  }
  if (magic.toString('latin1') !== 'GGUF') {
    throw new SetupError(
      `${path} is not a GGUF file: it does not begin with "GGUF". Give a model in GGUF format.`,
    )
  }
  try {
    const info = await readGgufFileInfo(path, { sourceType: 'filesystem', logWarnings: false })
    assertWhole(info, found.size)
    return info
  } catch (error) {
    throw broken(path, error)
  }
}

/** A file that was cut off (an unfinished download) has a valid header and too few bytes behind it. */
function assertWhole(info: GgufFileInfo, bytes: number): void {
  const last = info.fullTensorInfo?.reduce((end, tensor) => Math.max(end, Number(tensor.fileOffset)), 0) ?? 0
  if (info.splicedParts === 1 && last >= bytes) throw new Error('it ends before its last tensor')
}

function broken(path: string, cause: unknown): SetupError {
  const error = new SetupError(`The model file ${path} is broken or incomplete: download or make it again.`)
  error.cause = cause
  return error
}

async function openLlama(options: EngineOptions): Promise<Llama> {
  const gpu = options.gpu === 'off' ? false : options.gpu
  try {
    return await getLlama({
      gpu,
      build: 'never',
      skipDownload: true,
      progressLogs: false,
      maxThreads: resolveThreads(options.threads),
      logLevel: options.logLevel === 'debug' ? LlamaLogLevel.info : LlamaLogLevel.fatal,
      logger: (level, message) => process.stderr.write(`llama.cpp ${level}: ${message.trimEnd()}\n`),
    })
  } catch (error) {
    const found = new SetupError(
      `llama.cpp does not start with gpu '${options.gpu}' on this machine. Use --gpu off, or install the driver.`,
    )
    found.cause = error
    throw found
  }
}

async function openModel(input: {
  llama: Llama
  info: GgufFileInfo
  options: EngineOptions
  signal?: AbortSignal
}): Promise<LlamaModel> {
  const { llama, info, options, signal } = input
  const architecture = info.metadata.general.architecture
  const trained = (info.architectureMetadata as { pooling_type?: number } | undefined)?.pooling_type
  try {
    return await llama.loadModel({
      modelPath: options.modelPath,
      // A generative model names no pooling, and llama.cpp would give the last token's vector for a whole text.
      ...(trained === undefined && { metadataOverrides: { [architecture]: { pooling_type: poolingMean } } }),
      ...(options.gpu === 'off' && { gpuLayers: 0 }),
      ...(signal && { loadSignal: signal }),
    })
  } catch (error) {
    signal?.throwIfAborted()
    if (String(error).includes('InsufficientMemory') || /memory/i.test((error as Error).message)) {
      throw new SetupError(
        `Memory does not suffice for ${options.modelPath}: use a smaller or more strongly quantised model.`,
      )
    }
    throw broken(options.modelPath, error)
  }
}
const poolingMean = 1

async function openContext(input: {
  model: LlamaModel
  options: EngineOptions
  contextTokens: number
  batchTokens: number
  threads: number
}): Promise<LlamaContext> {
  const { model, options, contextTokens, batchTokens, threads } = input
  try {
    return await model.createContext({
      sequences: options.parallel,
      contextSize: contextTokens,
      batchSize: batchTokens,
      threads,
    })
  } catch (error) {
    const found = new SetupError(
      `Memory does not suffice for ${options.parallel} sequences of ${contextTokens} tokens: ` +
        'lower --parallel or --context-tokens.',
    )
    found.cause = error
    throw found
  }
}

function vocabularySize(info: GgufFileInfo, path: string): number {
  const tokens = info.metadata.tokenizer?.ggml?.tokens as readonly unknown[] | undefined
  if (!tokens || tokens.length === 0) throw broken(path, new Error('it has no vocabulary'))
  return tokens.length
}
