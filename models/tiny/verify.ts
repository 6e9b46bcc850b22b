// Compares tiny.gguf in llama.cpp with what verify.py wrote down, then samples
// chats and counts how many end by themselves. Prints figures and every
// difference; exits with 1 where the file is not the model.
//
//     node verify.ts tiny.gguf build/expected.json

import { readFile } from 'node:fs/promises';
import { getLlama, LlamaChatSession, type LlamaContext, type LlamaModel, type Token } from 'node-llama-cpp';

type Expected = {
  texts: { text: string; ids: Token[] }[];
  greedy: { ids: Token[]; out: Token[] }[];
};

const REPLY_TOKENS_MAX = 256;
const SAMPLING = { temperature: 0.7, topP: 0.95, maxTokens: REPLY_TOKENS_MAX };

// None of these is a line of the corpus word for word, except by chance.
const SUBJECTS = [
  'a fox', 'two friends', 'the sea', 'a dragon who is afraid', 'recursion', 'my grandmother', 'winter', 'a lost key',
  'the stock market', 'a robot', 'PostgreSQL', 'the first day of school', 'an old bridge', 'volcanoes', 'a hungry bear',
  'load balancing', 'bread', 'the moon', 'a small town', 'quantum computers',
];
const ASKS = [
  (subject: string) => `Tell me a story about ${subject}.`,
  (subject: string) => `Explain ${subject} in simple terms`,
  (subject: string) => `Write a poem about ${subject}`,
  (subject: string) => `What do you know about ${subject}?`,
  (subject: string) => `Can you give me some advice on ${subject}?`,
  (subject: string) => `hey, i was thinking about ${subject} today`,
  (subject: string) => `Write a short dialogue between a teacher and a student about ${subject}.`,
  (subject: string) => `Why do people like ${subject}?`,
  (subject: string) => `List five things that have to do with ${subject}, please, and say why.`,
  (subject: string) => `${subject}`,
];
const SYSTEM_PROMPTS = ['', 'You are a helpful assistant.'];

function compareTokens(model: LlamaModel, { texts }: Expected): number {
  let differences = 0;
  for (const { text, ids } of texts) {
    const sameIds = model.tokenize(text, true).join() === ids.join();
    const sameText = model.detokenize(ids, true) === text;
    if (sameIds && sameText) continue;
    differences += 1;
    console.log('tokens differ:', { text, sameIds, sameText });
  }
  console.log(`tokenization: ${texts.length - differences} of ${texts.length} texts agree both ways`);
  return differences;
}

async function compareGreedy(model: LlamaModel, context: LlamaContext, { greedy }: Expected): Promise<number> {
  let differences = 0;
  let tokens = 0;
  for (const { ids, out } of greedy) {
    const sequence = context.getSequence();
    const got: Token[] = [];
    for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
      got.push(token);
      if (got.length === out.length) break;
    }
    sequence.dispose();
    tokens += out.length;
    if (got.join() === out.join()) continue;
    differences += 1;
    console.log('continuations differ:', { got: model.detokenize(got), expected: model.detokenize(out) });
  }
  console.log(`greedy: ${greedy.length - differences} of ${greedy.length} continuations agree, ${tokens} tokens`);
  return differences;
}

async function sampleChats(context: LlamaContext): Promise<void> {
  const lengths: number[] = [];
  let stopped = 0;
  for (const [index, subject] of SUBJECTS.entries()) {
    for (const [row, ask] of ASKS.entries()) {
      const sequence = context.getSequence();
      const systemPrompt = SYSTEM_PROMPTS[(index + row) % SYSTEM_PROMPTS.length];
      // Not `undefined`, which stands for a long default prompt. The empty one is an empty turn.
      const session = new LlamaChatSession({ contextSequence: sequence, systemPrompt: systemPrompt ?? '' });
      const prompt = ask(subject);
      const seed = index * ASKS.length + row;
      const before = sequence.tokenMeter.getState();
      const reply = await session.promptWithMeta(prompt, { ...SAMPLING, seed });
      lengths.push(sequence.tokenMeter.diff(before).usedOutputTokens);
      if (reply.stopReason === 'eogToken') stopped += 1;
      console.log(`\n> ${prompt}\n${reply.responseText} [${reply.stopReason}]`);
      session.dispose();
      sequence.dispose();
    }
  }
  lengths.sort((a, b) => a - b);
  const at = (share: number) => lengths[Math.floor(share * (lengths.length - 1))];
  console.log(`\nchats: ${stopped} of ${lengths.length} end by themselves within ${REPLY_TOKENS_MAX} tokens`);
  console.log(`tokens of a reply: shortest ${at(0)}, median ${at(0.5)}, longest ${at(1)}`);
}

const [modelPath, expectedPath] = process.argv.slice(2);
if (modelPath === undefined || expectedPath === undefined) throw new Error('usage: node verify.ts <gguf> <expected.json>');
const expected = JSON.parse(await readFile(expectedPath, 'utf8')) as Expected;
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 1024, threads: 1 });
const differences = compareTokens(model, expected) + (await compareGreedy(model, context, expected));
await sampleChats(context);
await llama.dispose();
process.exitCode = differences === 0 ? 0 : 1;
