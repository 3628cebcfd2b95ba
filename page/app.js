const at = (id) => document.getElementById(id)
const [canvas, held] = [at("canvas"), new Set()] // the arrow keys that are held
const ARROWS = { ArrowLeft: [-0.03, 0], ArrowRight: [0.03, 0], ArrowUp: [0, -0.03], ArrowDown: [0, 0.03] }
let card, ort, session, isAsking, telling
let picture, pixels // what takes the place of a drawing; what the model sees
let path, box, pen = [0.5, 0.5] // in shares of the canvas: the drawing; its left, top, right, bottom; the keyboard's pen

const complain = (text) => Object.assign(at("wrong"), { textContent: text, hidden: !text })
const percent = (share) => (share > 0.9995 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`)
const highest = (shares) => shares.indexOf(Math.max(...shares))
const within = (value, low, high) => Math.max(low, Math.min(high, value))
const rounded = (value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value)) // as Python does
const surface = (width, height) => make("canvas", { width, height }).getContext("2d", { willReadFrequently: true })
const row = (className, name, ...cells) =>
  make("tr", { className }, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)))

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children) // a string becomes text, never markup
  return made
}

function trace(context, lineWidth, scale, x, y) {
  const moved = new Path2D()
  moved.addPath(path, new DOMMatrix([scale, 0, 0, scale, x, y]))
  const strokeStyle = getComputedStyle(canvas).color
  Object.assign(context, { strokeStyle, lineWidth, lineCap: "round", lineJoin: "round" }).stroke(moved)
}

/** Bring a drawing to the form of MNIST: white on black, in 20 of 28 pixels, its mass in the middle. */
function ofDrawing({ height, width }, [left, top, right, bottom]) {
  const [wide, tall, thick] = [(width * 20) / 28, (height * 20) / 28, 0.09 * Math.min(width, height)]
  const span = [right - left, bottom - top].map((side) => Math.max(0.1, side)) // a dot stays small
  const scale = Math.min((wide - thick) / span[0], (tall - thick) / span[1])
  const inkAround = (x, y) => {
    const context = surface(width, height)
    trace(context, thick, scale, x - ((left + right) / 2) * scale, y - ((top + bottom) / 2) * scale)
    return new Uint8Array(context.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 === 3))
  }
  const ink = inkAround(width / 2, height / 2)
  const mass = ink.reduce((sum, value) => sum + value)
  const mean = (place) => ink.reduce((sum, value, i) => sum + value * (place(i) + 0.5), 0) / mass
  const [x, y] = [width - mean((i) => i % width), height - mean((i) => Math.floor(i / width))]
  return inkAround(within(x, wide / 2, width - wide / 2), within(y, tall / 2, height - tall / 2))
}

/** Resize the middle part of each row by Pillow's bilinear filter, and turn the plane: done twice, it stands. */
function resized(plane, rows, part, count, all) {
  const [size, step, reach] = [plane.length / rows, part / count, Math.max(1, part / count)]
  const out = new Uint8ClampedArray(all * rows)
  for (let place = 0; place < count; place++) {
    const middle = (size - part) / 2 + (place + 0.5) * step
    const first = Math.max(0, Math.trunc(middle - reach + 0.5))
    const length = Math.min(size, Math.trunc(middle + reach + 0.5)) - first
    const raw = Array.from({ length }, (_, i) => Math.max(0, 1 - Math.abs(first + i + 0.5 - middle) / reach))
    const whole = raw.reduce((sum, weight) => sum + weight)
    const weights = raw.map((weight) => Math.round((weight / whole) * 2 ** 22) / 2 ** 22)
    const start = (((all - count) >> 1) + place) * rows // black is left around
    for (let y = 0; y < rows; y++)
      out[start + y] = Math.floor(weights.reduce((sum, weight, i) => sum + weight * plane[y * size + first + i], 0.5))
  }
  return out
}

/** Bring a picture to the model's form as src/foldwise/sources/pictures.py does. */
function ofPicture({ channels, height, width, resize }) {
  const shrink = Math.min(1, 4096 / Math.max(picture.width, picture.height)) // some browsers have no larger canvas
  const [w, h] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * shrink)))
  const context = Object.assign(surface(w, h), { fillStyle: "#fff" })
  context.fillRect(0, 0, w, h)
  context.drawImage(picture, 0, 0, w, h)
  const { data } = context.getImageData(0, 0, w, h)
  const grey = (i) => (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16
  const fit = (side) => Math.max(1, rounded(side * Math.min(width / w, height / h)))
  const [wide, tall] = resize === "pad" ? [fit(w), fit(h)] : [width, height]
  const [cutW, cutH] = resize === "crop" ? [Math.min(w, h * width / height), Math.min(h, w * height / width)] : [w, h]
  const out = new Uint8Array(channels * height * width)
  for (let channel = 0; channel < channels; channel++) {
    const plane = Uint8Array.from({ length: w * h }, (_, i) => (channels === 1 ? grey(4 * i) : data[4 * i + channel]))
    out.set(resized(resized(plane, h, cutW, wide, width), width, cutH, tall, height), channel * height * width)
  }
  return out
}

/** Show the drawing or the picture, and ask the model about it. */
function change() {
  const [context, side, { channels, height, width }] = [canvas.getContext("2d"), canvas.width, card.images]
  context.clearRect(0, 0, side, side)
  const { width: w, height: h } = picture ?? canvas
  const scale = side / Math.max(w, h)
  if (picture) context.drawImage(picture, (side - w * scale) / 2, (side - h * scale) / 2, w * scale, h * scale)
  trace(context, 0.075 * side, side, 0, 0)
  pixels = picture ? ofPicture(card.images) : box && ofDrawing(card.images, box)
  const seen = new ImageData(width, height)
  const value = (_, i) => (i % 4 === 3 ? 255 : pixels?.[((i % 4) % channels) * height * width + (i >> 2)])
  seen.data.set(seen.data.map(value))
  at("sight").getContext("2d").putImageData(seen, 0, 0)
  ;[at("hint").hidden, at("taken").hidden] = [pixels, !picture]
  if (session) complain("")
  ask().catch((error) => complain(`The model does not run in this browser: ${error.message ?? error}`, (session = null)))
}

/** Ask about the newest pixels; those that come while the model is at work wait. */
async function ask() {
  if (isAsking) return
  isAsking = true
  const { channels, height, width } = card.images
  for (let asked; asked !== pixels; ) {
    asked = pixels
    const input = session && asked && new ort.Tensor("uint8", asked, [1, channels, height, width])
    show(input && (await session.run({ pixels: input })))
    await new Promise(requestAnimationFrame) // lets what is drawn come through
  }
  isAsking = false
}

function show(answer) {
  const { classes, cross_validation: { k, repeats } } = card
  const shares = [...(answer?.probabilities.data ?? classes.map(() => 0))]
  const best = answer ? highest(shares) : -1
  const order = [...classes.keys()]
  if (classes.length > 12) order.sort((a, b) => shares[b] - shares[a]).splice(10)
  const said = answer ? [classes[best], percent(shares[best])] : ["–", session ? "" : "Loading the model"]
  ;[at("best").textContent, at("share").textContent] = said
  at("bars").tBodies[0].replaceChildren(...order.map((i) => {
    const bar = make("i", { style: `width: ${100 * shares[i]}%` })
    return row(i === best ? "best" : "", classes[i], bar, answer ? percent(shares[i]) : "")
  }))
  const [, count, length] = answer?.folds?.dims ?? [0, 0, 0]
  const folds = Array.from({ length: count }, (_, j) => [...answer.folds.data.slice(j * length, (j + 1) * length)])
  const agree = folds.filter((fold) => highest(fold) === best).length
  at("folds").hidden = !count
  at("folds").caption.textContent = `The model of each fold: ${agree} of ${count} say ${classes[best]}`
  at("folds").tBodies[0].replaceChildren(...folds.map((fold, j) => {
    const name = repeats > 1 ? `Repeat ${Math.floor(j / k) + 1}, fold ${(j % k) + 1}` : `Fold ${j + 1}`
    return row("", name, classes[highest(fold)], percent(Math.max(...fold)))
  }))
  clearTimeout(telling)
  telling = setTimeout(() => (at("told").textContent = said.join(" ")), 600) // to be read aloud once it stands
}

function take([file]) {
  return createImageBitmap(file, { colorSpaceConversion: "none" }).then(clear, () =>
    complain(`${file?.name || "That"} is no picture that this browser can read.`))
}

function clear(given) {
  ;[picture, path, box] = [given, new Path2D(), null]
  at("pen").className = ""
  change()
}

function draw([x, y], isFirst) {
  if (isFirst && picture) clear()
  path[isFirst ? "moveTo" : "lineTo"](x, y)
  if (isFirst) path.lineTo(x + 1e-4, y) // a dot
  const [left, top, right, bottom] = box ?? [x, y, x, y]
  box = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)]
}

function point(event) {
  const isFirst = event.type === "pointerdown"
  if (isFirst && event.isPrimary && !event.button) canvas.setPointerCapture(event.pointerId)
  if (!canvas.hasPointerCapture(event.pointerId)) return
  const { x, y, width, height } = canvas.getBoundingClientRect()
  for (const { clientX, clientY } of isFirst ? [event] : [...event.getCoalescedEvents(), event])
    draw([within((clientX - x) / width, 0, 1), within((clientY - y) / height, 0, 1)], isFirst)
  change()
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return
  if (["Escape", "Delete", "Backspace"].includes(event.key)) clear()
  else if (ARROWS[event.key]) {
    held.add(event.key)
    for (const key of held) pen = pen.map((share, axis) => within(share + ARROWS[key][axis], 0.05, 0.95))
    Object.assign(at("pen").style, { left: `${100 * pen[0]}%`, top: `${100 * pen[1]}%` })
    if (at("pen").className) draw(pen)
  } else if (event.key !== " ") return
  else if (!event.repeat && at("pen").classList.toggle("down")) draw(pen, true)
  event.preventDefault()
  change()
}

/** Say how accurate such models are, and listen. */
function begin() {
  const { cross_validation: { accuracy, k, repeats }, data: { name }, images: { channels, width, height }, kind } = card
  const [mean, low, high] = ["mean", "ci95_low", "ci95_high"].map((key) => (100 * accuracy[key]).toFixed(2))
  const [models, alike] = [kind === "ensemble" ? "these" : "this one", `pictures like those of ${name}`]
  const times = repeats > 1 ? ` done ${repeats} times` : ""
  at("accuracy").textContent = `Models trained like ${models} were right on ${mean}\u00a0% of the pictures held out in `
    + `${k}-fold cross-validation${times} (95\u00a0% interval ${low} to ${high}\u00a0%), ${alike}: yours may differ.`
  Object.assign(at("sight"), { width, height })
  if (channels === 1) {
    at("hint").textContent = "Draw here"
    Object.assign(canvas, { tabIndex: 0, role: "application", onpointerdown: point, onpointermove: point })
    Object.assign(canvas, { onkeydown: press, onkeyup: ({ key }) => held.delete(key), onblur: () => held.clear() })
  }
  at("clear").onclick = () => clear()
  at("file").onchange = ({ target }) => take(target.files).then(() => (target.value = "")) // so that it can come again
  ondragover = (event) => event.preventDefault()
  ondrop = (event) => take(event.dataTransfer.files, event.preventDefault())
  document.onpaste = ({ clipboardData: { files } }) => files.length && take(files)
  matchMedia("(prefers-color-scheme: dark)").onchange = change
  clear()
}

async function get(name) {
  const reply = await fetch(name, { cache: "no-cache" }).catch(() => ({ status: "no answer" }))
  if (!reply.ok) throw new Error(`${name} cannot be loaded (${reply.status}): type make page, and serve model/page.`)
  return reply
}

async function start() {
  if (location.protocol === "file:") throw new Error("As a file it loads no model: type python3 -m http.server -d model/page")
  if (!self.WebAssembly) throw new Error("This browser runs no WebAssembly, which the model needs.")
  card = await (await get("card.json")).json()
  begin()
  const model = await (await get("model.onnx")).arrayBuffer()
  ort = await import("./onnxruntime.js")
  ort.env.wasm.numThreads = 1 // more need headers that a plain server does not send
  session = await ort.InferenceSession.create(model)
  change()
}

start().catch((error) => complain(error.message))
