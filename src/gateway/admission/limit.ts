/**
 * How many live requests of a model may be under way at once: a pure decision, taken once a window.
 *
 * It is Gradient2 of Netflix's concurrency-limits (limit × usual latency / latency now, plus a little room to grow
 * into; https://github.com/Netflix/concurrency-limits), with what language models need beside it:
 *
 * - The latency is the time to the first token, by the median of a window: prompts differ by a factor of a thousand,
 *   and a mean would follow the longest. Streams are heard first. A whole answer's first byte is its last, and tells
 *   of its length and of the batch it was decoded in; it is heard where there are too few streams.
 * - It starts from what the fleet says that it works on at once, and moves with it: twice the instances, twice the limit.
 * - What is usual is not learnt from a crowded fleet, or an hour of overload would become what is usual.
 * - A fleet that holds more than it says is found out at once and not in minutes: as TCP's slow start does, each first
 *   byte in good time adds a place while all are taken, until one window is too slow.
 */

/** What is taken as the usual time to the first byte, and when it was last heard of (monotonic). */
export type Usual = { readonly ms: number; readonly atMs: number }

export type LimitState = {
  /** A fraction, so that slow growth adds up. */
  readonly limit: number
  /** What the fleet worked on at once when it was last asked; 0 for an unknown fleet. */
  readonly slots: number
  /** Each first byte in good time adds a place. */
  readonly isProbing: boolean
  readonly stream: Usual | null
  readonly whole: Usual | null
}

/** Times to the first byte in one window. */
export type Latency = {
  readonly samples: number
  /** The time that half, nine tenths stay below. */
  readonly medianMs: number
  readonly highMs: number
}

export type LimitWindow = {
  readonly nowMs: number
  /** Slots of the instances that are ready, and the most requests that they take in together. */
  readonly slots: number
  readonly inFlightMax: number
  /** What they are given before anything is known of how they fare. */
  readonly start: number
  /** Most requests under way at once. */
  readonly peak: number
  /** Somebody had to wait. */
  readonly hasWaited: boolean
  /** Requests that came to an end, and those of them that the fleet turned away because it was full. */
  readonly ended: number
  readonly drops: number
  /** Null for too few samples. */
  readonly stream: Latency | null
  readonly whole: Latency | null
}

export type LimitRules = {
  readonly concurrencyMin: number
  /** From the arrival to the first token of a stream; 0 for none. */
  readonly ttftTargetMs: number
}

export const limitRules = {
  /** So many times the usual is still good. Batches make every step longer, and are what a fleet lives from. */
  tolerance: { stream: 2, whole: 4 },
  /** Nobody minds so much more, whatever is usual. */
  slackMs: 100,
  /** Of a target, what is left to the fleet for nine of ten; the tenth needs the rest. */
  targetShare: 0.4,
  /** Of a target, what may be spent in the waiting line. */
  waitShare: 0.4,
  /** How much of the way to where the gradient points one window goes. */
  smoothing: 0.4,
  /** One window takes no more than half away, times the smoothing: outliers are no trend. */
  gradientMin: 0.5,
  /** So many times the usual is as good as usual. */
  promptTolerance: { stream: 1.25, whole: 1.5 },
  /** With this many times the latency left, the limit is far from where it hurts. */
  probingHeadroom: 2,
  /** The gradient alone goes no lower than this share of the slots: what is slow there is not slow from a crowd. */
  floorShare: 0.25,
  usualTauMs: { falling: 10_000, calm: 30_000, crowded: 3_600_000 },
  usualStepMsMax: 10_000,
  /** What is taken for a fleet that tells nothing. */
  slotsUnknown: 16,
} as const

export function newLimit(
  { slots, start }: Pick<LimitWindow, 'slots' | 'start'>,
  { concurrencyMin }: LimitRules,
): LimitState {
  const limit = Math.max(concurrencyMin, start || limitRules.slotsUnknown)
  return { limit, slots, isProbing: true, stream: null, whole: null }
}

/** The next limit, from the last one and what was seen since. */
export function adjustLimit(last: LimitState, window: LimitWindow, rules: LimitRules): LimitState {
  const state = followFleet(last, window)
  const floor = Math.max(rules.concurrencyMin, state.slots * limitRules.floorShare)
  const judgement = judge(state, window, rules)
  const moved = { ...state, ...move(state, window, { judgement, floor, ...rules }) }
  const ceiling = Math.max(rules.concurrencyMin, window.inFlightMax || Number.POSITIVE_INFINITY)
  const isCalm = window.peak <= state.slots / 2 || state.limit <= floor * 1.01
  return {
    ...moved,
    limit: Math.min(ceiling, Math.max(rules.concurrencyMin, moved.limit)),
    stream: follow(state.stream, window.stream, { isCalm, nowMs: window.nowMs }),
    whole: follow(state.whole, window.whole, { isCalm, nowMs: window.nowMs }),
  }
}

/** The longest time to the first byte that counts as good; null while nothing is known. */
export function readAllowedMs(
  state: LimitState,
  kind: 'stream' | 'whole',
  { ttftTargetMs }: LimitRules,
): number | null {
  if (kind === 'stream' && ttftTargetMs > 0) return ttftTargetMs * limitRules.targetShare
  const usual = state[kind]
  return usual && usual.ms * limitRules.tolerance[kind] + limitRules.slackMs
}

/**
 * Whether first bytes come so soon that another place may be tried: close to what is usual, and not only within what
 * is allowed. Between the two the limit stays, or what is allowed would soon be what is usual; and the queue that one
 * place too many makes is seen only when the next answer begins. Source: HyStart, Ha, Rhee, 2011,
 * https://doi.org/10.1016/j.comnet.2011.01.014
 */
export function isPrompt(
  state: LimitState,
  ttftMs: number,
  rules: LimitRules & { stream: boolean },
): boolean {
  const kind = rules.stream ? 'stream' : 'whole'
  const usualMs = state[kind]?.ms ?? 0
  return ttftMs <= usualMs * limitRules.promptTolerance[kind] + limitRules.slackMs / 2
}

/** Instances that come bring their places with them, and those that go take them along. */
function followFleet(state: LimitState, { slots, start }: LimitWindow): LimitState {
  // With none ready there is nothing to protect: what comes is refused behind this door, and at once.
  if (slots === 0 || slots === state.slots) return state
  const limit = state.slots === 0 ? Math.max(state.limit, start) : (state.limit * slots) / state.slots
  return { ...state, slots, limit }
}

type Judgement = {
  /** What is left of the time allowed: below 1, first bytes come too late by this factor. */
  headroom: number
  mayGrow: boolean
}

/** Null: nothing is known. */
function judge(state: LimitState, window: LimitWindow, rules: LimitRules): Judgement | null {
  const kind = window.stream ? 'stream' : 'whole'
  const latency = window[kind]
  const allowedMs = readAllowedMs(state, kind, rules)
  if (latency === null || allowedMs === null) return null
  // A target is a promise to nearly all, and whoever sets one is content with it; beside the usual, the middle says most.
  const isTarget = kind === 'stream' && rules.ttftTargetMs > 0
  const headroom = allowedMs / Math.max(1e-3, isTarget ? latency.highMs : latency.medianMs)
  const mayGrow = isTarget
    ? headroom >= limitRules.promptTolerance.stream
    : headroom >= 1 && isPrompt(state, latency.medianMs, { ...rules, stream: kind === 'stream' })
  return { headroom, mayGrow }
}

function move(
  { limit, isProbing }: LimitState,
  { ended, drops, peak, hasWaited }: LimitWindow,
  {
    judgement,
    floor,
    concurrencyMin,
    ttftTargetMs,
  }: LimitRules & { judgement: Judgement | null; floor: number },
): Pick<LimitState, 'limit' | 'isProbing'> {
  if (drops > 0) {
    // By half of the share that was turned away, as DCTCP does (RFC 8257, 3.3): one instance of many that is busy now
    // and then must not close the door of all.
    const kept = limit * (1 - drops / Math.max(drops, ended) / 2)
    return { limit: Math.max(concurrencyMin, kept), isProbing: false }
  }
  // A limit that nobody has tried says nothing: what was too much is what was under way.
  const tried = Math.max(Math.min(limit, peak), limit / 2)
  if (judgement === null) return { limit, isProbing }
  const { headroom, mayGrow } = judgement
  if (mayGrow) {
    const isUsed = hasWaited || peak >= Math.floor(limit)
    const grown = isUsed ? limit + Math.sqrt(limit) * limitRules.smoothing : limit
    return { limit: grown, isProbing: isProbing || headroom >= limitRules.probingHeadroom }
  }
  if (headroom >= 1) return { limit, isProbing: false }
  const lowest = ttftTargetMs > 0 ? concurrencyMin : floor
  if (tried <= lowest) return { limit: Math.min(limit, lowest), isProbing: false }
  const wanted = tried * Math.max(limitRules.gradientMin, headroom) + Math.sqrt(tried) / 2
  const next = tried + (Math.min(wanted, tried) - tried) * limitRules.smoothing
  return { limit: Math.max(lowest, next), isProbing: false }
}

/** Takes over at once what is faster, soon what is slower in a calm fleet, and late what is slower in a crowded one. */
function follow(
  usual: Usual | null,
  latency: Latency | null,
  { isCalm, nowMs }: { isCalm: boolean; nowMs: number },
): Usual | null {
  if (latency === null) return usual
  const { medianMs } = latency
  if (usual === null) return { ms: medianMs, atMs: nowMs }
  const { falling, calm, crowded } = limitRules.usualTauMs
  const tauMs = medianMs < usual.ms ? falling : isCalm ? calm : crowded
  const passedMs = Math.min(limitRules.usualStepMsMax, nowMs - usual.atMs)
  return { ms: medianMs + (usual.ms - medianMs) * Math.exp(-passedMs / tauMs), atMs: nowMs }
}
