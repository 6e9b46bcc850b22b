/** What the clients ask and the mock upstream answers: the sizes and shapes of everyday chat. */

export const modelName = 'bench-model'

/** What the official `openai` package sends with each request, on Node. */
export const clientHeaders: Readonly<Record<string, string>> = {
  accept: 'application/json',
  'user-agent': 'OpenAI/JS 7.57.0',
  'x-stainless-retry-count': '0',
  'x-stainless-lang': 'js',
  'x-stainless-package-version': '7.57.0',
  'x-stainless-os': 'Linux',
  'x-stainless-arch': 'x64',
  'x-stainless-runtime': 'node',
  'x-stainless-runtime-version': 'v24.21.0',
  authorization: 'Bearer sk-none',
  'content-type': 'application/json',
  'accept-language': '*',
  'sec-fetch-mode': 'cors',
  'accept-encoding': 'gzip, deflate',
}

const prompt = {
  model: modelName,
  messages: [
    {
      role: 'system',
      content:
        'You are the assistant of an online shop. Answer in at most three sentences, and never promise a date.',
    },
    {
      role: 'user',
      content:
        'Good morning! I ordered a pair of walking boots last Tuesday and the tracking page still says "label created". Can you tell me whether the parcel has left the warehouse, and what I can do if it has not? I leave for the mountains on Saturday morning.',
    },
  ],
  temperature: 0.7,
}

/** About 500 bytes. */
export const jsonRequest = JSON.stringify({ ...prompt, max_tokens: 120 })

/** About 700 bytes. */
export const jsonResponse = JSON.stringify({
  id: 'chatcmpl-9f3a61b2c84d4e7f8a90',
  object: 'chat.completion',
  created: 1_760_000_000,
  model: modelName,
  choices: [
    {
      index: 0,
      message: {
        role: 'assistant',
        content:
          'Thank you for your message. "Label created" means that the parcel is packed but the carrier has not scanned it yet, which can take up to two working days. If the page has not changed by then, please write to us again with your order number, and we will ask the carrier where it is or send you a new pair of boots on the same day.',
      },
      logprobs: null,
      finish_reason: 'stop',
    },
  ],
  usage: { prompt_tokens: 83, completion_tokens: 71, total_tokens: 154 },
  system_fingerprint: 'fp_44709d6fcb',
})

/** A stream of `chunks` chunks, one every `intervalMs`; the field `mock` is for the mock upstream alone. */
export function makeStreamRequest({ chunks, intervalMs }: { chunks: number; intervalMs: number }): string {
  return JSON.stringify({ ...prompt, stream: true, max_tokens: chunks, mock: { intervalMs } })
}

const words = ['The', ' parcel', ' is', ' packed', ' and', ' waits', ' for', ' the', ' carrier', '.']

/** The events of one stream: `chunks` of about 190 bytes each, the usage when asked for, and the end mark. */
export function makeStreamEvents({ chunks, usage }: { chunks: number; usage: boolean }): Buffer[] {
  const head = {
    id: 'chatcmpl-9f3a61b2c84d4e7f8a90',
    object: 'chat.completion.chunk',
    created: 1_760_000_000,
    model: modelName,
  }
  const events: string[] = []
  for (let i = 0; i < chunks; i += 1) {
    const delta = i === 0 ? { role: 'assistant', content: '' } : { content: words[i % words.length] }
    const finish_reason = i === chunks - 1 ? 'stop' : null
    const choices = [{ index: 0, delta, finish_reason }]
    events.push(JSON.stringify({ ...head, choices, ...(usage ? { usage: null } : {}) }))
  }
  if (usage) {
    const tokens = { prompt_tokens: 83, completion_tokens: chunks, total_tokens: 83 + chunks }
    events.push(JSON.stringify({ ...head, choices: [], usage: tokens }))
  }
  return [...events, '[DONE]'].map((data) => Buffer.from(`data: ${data}\n\n`))
}
