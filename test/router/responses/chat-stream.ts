import fc from 'fast-check'

/** A chat completion in both of its forms: whole, and cut into chunks in one of many ways. */
type ChatPair = { whole: Record<string, unknown>; chunks: Record<string, unknown>[] }

const usage = fc.record({
  prompt_tokens: fc.nat(1000),
  completion_tokens: fc.nat(1000),
  prompt_tokens_details: fc.option(fc.record({ cached_tokens: fc.nat(100) })),
  completion_tokens_details: fc.option(fc.record({ reasoning_tokens: fc.nat(100) })),
})

const pieces = (maxLength: number) => fc.array(fc.string({ minLength: 0, maxLength: 8, unit: 'grapheme' }), { maxLength }) // prettier-ignore

const call = fc.record({ name: fc.stringMatching(/^[a-z]{1,6}$/), args: pieces(5) })

/** The parts in the order in which instances send them: thoughts, text, refusal, calls. */
export const chatPairs: fc.Arbitrary<ChatPair> = fc
  .record({
    thoughts: fc.oneof(fc.constant([] as string[]), pieces(4)),
    thoughtField: fc.constantFrom('reasoning_content', 'reasoning'),
    text: pieces(6),
    refusal: fc.oneof(
      { weight: 4, arbitrary: fc.constant([] as string[]) },
      { weight: 1, arbitrary: pieces(3) },
    ),
    calls: fc.oneof(fc.constant([] as { name: string; args: string[] }[]), fc.array(call, { maxLength: 3 })),
    /** Arguments of several calls in turns, as their indexes allow. */
    interleaves: fc.boolean(),
    finish: fc.constantFrom('stop', 'length', 'tool_calls', 'content_filter', null),
    usage: fc.option(usage),
    packs: fc.nat(2),
  })
  .map(({ thoughts, thoughtField, text, refusal, calls, interleaves, finish, usage, packs }) => {
    const message: Record<string, unknown> = { role: 'assistant', content: text.join('') || null }
    if (thoughts.join('') !== '') message[thoughtField] = thoughts.join('')
    if (refusal.join('') !== '') message['refusal'] = refusal.join('')
    if (calls.length > 0) {
      message['tool_calls'] = calls.map(({ name, args }, index) => ({
        ...{ id: `call_${index}`, type: 'function' },
        function: { name, arguments: args.join('') },
      }))
    }
    const argumentDeltas = calls.flatMap(({ args }, index) =>
      args.map((piece, turn) => ({
        turn,
        delta: { tool_calls: [{ index, function: { arguments: piece } }] },
      })),
    )
    if (interleaves) argumentDeltas.sort((a, b) => a.turn - b.turn)
    const starts = calls.map(({ name }, index) => ({
      tool_calls: [{ index, id: `call_${index}`, type: 'function', function: { name, arguments: '' } }],
    }))
    const deltas: Record<string, unknown>[] = [
      { role: 'assistant', content: '' },
      ...thoughts.map((piece) => ({ [thoughtField]: piece })),
      ...text.map((piece) => ({ content: piece })),
      ...refusal.map((piece) => ({ refusal: piece })),
      ...starts,
      ...argumentDeltas.map(({ delta }) => delta),
    ]
    const chunks: Record<string, unknown>[] = deltas.map((delta) => ({
      object: 'chat.completion.chunk',
      choices: [{ index: 0, delta, finish_reason: null }],
      ...(packs === 1 ? { usage: null } : {}),
    }))
    chunks.push({ choices: [{ index: 0, delta: {}, finish_reason: finish }] })
    if (usage) chunks.push({ choices: [], usage })
    const choice = { index: 0, message, finish_reason: finish }
    return { whole: { object: 'chat.completion', choices: [choice], ...(usage ? { usage } : {}) }, chunks }
  })
